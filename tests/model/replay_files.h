// Scripts in files, one after the other: what the replayer of every language does (docs/SCRIPTS.md).
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "tests/model/replay.h"

namespace kvc_scripts {

// Words: "target=T", "threads=N" and files. Prints "DIGEST  FILE" a file; one that does not go as it says is told to `problems`, and the
// others follow. Returns the exit status: 0, or 1 if that happened. Throws std::runtime_error where words make no sense.
int replay_files(const std::vector<std::string>& words, std::FILE* out, std::FILE* problems);

}  // namespace kvc_scripts

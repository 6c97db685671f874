// Random scripts over all that operation scripts can say, the reference model's reach aside: every preset, ladder and policy, merging,
// step-down, snapshots, and misuse. The library itself says the statuses. Equal seeds give equal scripts with equal libraries.
#pragma once

#include <cstdint>

#include "tests/model/replay.h"

namespace kvc_scripts {

Script generate_all(uint64_t seed, int64_t operations);
// The script with the statuses that the library gives. Throws std::runtime_error where it gives "internal", which no script may.
Script record(Script script, const RunOptions& options);

}  // namespace kvc_scripts

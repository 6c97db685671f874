// Random scripts: mostly sensible operations, some that must be refused. Equal seeds give equal scripts on every machine.
#pragma once

#include <cstdint>

#include "tests/model/script.h"

namespace kvc_scripts {

struct GenerateOptions {
    int64_t operations = 60;
    bool large = false;  // presets with their real windows, more dims and more tokens
};

// The expected statuses come from the reference model; operations that may exhaust a small arena expect "ok|no_memory" and the like.
Script generate(uint64_t seed, const GenerateOptions& options);

}  // namespace kvc_scripts

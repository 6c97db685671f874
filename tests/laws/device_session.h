// A session whose cache lies on a device that is named, whatever device scripts make their caches on otherwise.
#pragma once
#include <string>
#include <utility>

#include "tests/laws/session.h"

namespace kvc_laws {

inline Session open_on(int32_t device, const std::string& create, const kvc_scripts::RunOptions& options = {}) {
    struct Restored {
        int32_t device;
        ~Restored() { kvc_scripts::device_of_scripts() = device; }
    } const restored{std::exchange(kvc_scripts::device_of_scripts(), device)};
    return Session(create, options);
}

}  // namespace kvc_laws

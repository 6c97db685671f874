// Whether memory that a caller names is of the kind that it is said to be.
#pragma once
#include <cstdint>

#include "core/base/status.h"

namespace kvc::cuda {

// With the device `ordinal` selected: on_device: bytes > 0 at p are its memory, otherwise the host's; managed memory is both. Looks at the
// first byte and the last one. Code::argument: they are not, and the message goes on behind "p ..." with what they are.
Status check_place(const void* p, int64_t bytes, int ordinal, bool on_device);

}  // namespace kvc::cuda

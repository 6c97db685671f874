// The lane primitives of neon.
#include "kernels/cpu/lanes_neon.h"
#include "tests/lanes/adapters.h"

namespace kvc_test {

LaneTarget neon_lanes() { return kvc::simd::lanes_named("neon"); }

}  // namespace kvc_test

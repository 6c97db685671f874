// The lane primitives of avx2.
#include "kernels/cpu/lanes_avx2.h"
#include "tests/lanes/adapters.h"

namespace kvc_test {

LaneTarget avx2_lanes() { return kvc::simd::lanes_named("avx2"); }

}  // namespace kvc_test

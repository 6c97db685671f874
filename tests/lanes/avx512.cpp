// The lane primitives of avx512.
#include "kernels/cpu/lanes_avx512.h"
#include "tests/lanes/adapters.h"

namespace kvc_test {

LaneTarget avx512_lanes() { return kvc::simd::lanes_named("avx512"); }

}  // namespace kvc_test

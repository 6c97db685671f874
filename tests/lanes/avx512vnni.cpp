// The lane primitives of avx512vnni.
#include "kernels/cpu/lanes_avx512.h"
#include "tests/lanes/adapters.h"

namespace kvc_test {

LaneTarget avx512vnni_lanes() { return kvc::simd::lanes_named("avx512vnni"); }

}  // namespace kvc_test

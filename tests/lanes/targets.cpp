// The targets whose lanes were compiled for this processor family.
#include "tests/lanes/lanes.h"

namespace kvc_test {

std::vector<LaneTarget> lanes_under_test() {
    return {
#if defined(KVC_CPU_AVX512VNNI)
        avx512vnni_lanes(),
#endif
#if defined(KVC_CPU_AVX512)
        avx512_lanes(),
#endif
#if defined(KVC_CPU_AVX2)
        avx2_lanes(),
#endif
#if defined(KVC_CPU_NEON)
        neon_lanes(),
#endif
    };
}

}  // namespace kvc_test

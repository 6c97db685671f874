// AVX2 with FMA and F16C.
#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/simd_table.h"

namespace kvc {

const KernelTable* avx2_table() {
    static constexpr KernelTable table = simd::table_named("avx2");
    return &table;
}

}  // namespace kvc

// AVX-512 (F, BW, DQ, VL).
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/simd_table.h"

namespace kvc {

const KernelTable* avx512_table() {
    static constexpr KernelTable table = simd::table_named("avx512");
    return &table;
}

}  // namespace kvc

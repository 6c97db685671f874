// AVX-512 with VNNI: a product of words and its sum are one instruction.
#include "kernels/cpu/lanes_avx512.h"
#include "kernels/cpu/simd_table.h"

namespace kvc {

const KernelTable* avx512vnni_table() {
    static constexpr KernelTable table = simd::table_named("avx512vnni");
    return &table;
}

}  // namespace kvc

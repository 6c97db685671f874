// NEON with half precision conversion.
#include "kernels/cpu/lanes_neon.h"
#include "kernels/cpu/simd_table.h"

namespace kvc {

const KernelTable* neon_table() {
    static constexpr KernelTable table = simd::table_named("neon");
    return &table;
}

}  // namespace kvc

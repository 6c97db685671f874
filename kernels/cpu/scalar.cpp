// The portable target and the witness of all others: the bodies as they are, compiled for the processor family's baseline.
#include "kernels/cpu/attend_body.h"
#include "kernels/cpu/targets.h"

namespace kvc {

const KernelTable* scalar_table() {
    static constexpr KernelTable table = {
        .name = "scalar",
        .scratch_bytes = attend_scratch_bytes,
        .store = store_tokens,
        .quantize = quantize_page,
        .read = read_page,
        .unpack = unpack_page,
        .pack = pack_page,
        .attend = attend_item,
        .mass = mass_item,
        .page_mass = page_mass_item,
        .finish = finish_row<rotate_row>,
        .rotates_keys = true,
        .weighs_counts = true,
    };
    return &table;
}

}  // namespace kvc

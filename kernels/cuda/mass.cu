#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mass_launch.cuh"

namespace kvc::cuda {
namespace {

template <int KD, int tiles, bool general>
void launch_prompt_dim(const LayerFormat& f, const PromptArgs& args, const MassItem* items, int n_items, int64_t rows,
                       simt::Stream stream) {
    using Shared = PromptShared<KD, 0, tiles>;
    if (f.k_dim == KD) {
        const simt::Grid grid{int(ceil_div(rows, Shared::rows)), n_items, threads, Shared::bytes};
        simt::launch(mass_prompt<KD, tiles, general>, grid, stream, args, items);
    }
}

}  // namespace

void launch_mass(const AttendParams& p, const MassItem* items, int n_items, int64_t rows, bool prompt_class, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    // The logits of the kernels that attend takes (launch_attend, launch_prompt).
    if (p.rope || prompt_class) {
        const PromptArgs args = prompt_args(p, nullptr);
        const bool general = p.rope || args.bf16;
#define KVC_CUDA_LAUNCH_DIM(KD)                                                     \
    general ? launch_prompt_dim<KD, 1, true>(f, args, items, n_items, rows, stream) \
            : launch_prompt_dim<KD, KD <= 192 ? 2 : 1, false>(f, args, items, n_items, rows, stream);
        KVC_CUDA_KEY_DIMS(KVC_CUDA_LAUNCH_DIM)
#undef KVC_CUDA_LAUNCH_DIM
        return;
    }
    const PageKind kind = *kind_of(f);
    const MassLaunch launch{f, attend_args(p, nullptr), items, int(ceil_div(rows, tile_rows)), n_items, stream};
    launch_mass_of_pairs(kind, launch);
    launch_mass_of_groups(kind, launch);
    launch_mass_of_rows(kind, launch);
}

}  // namespace kvc::cuda

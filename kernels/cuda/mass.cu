#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mass_launch.cuh"

namespace kvc::cuda {
namespace {

constexpr int prompt_tiles = 2;

template <int KD>
void launch_prompt_dim(const LayerFormat& f, const PromptArgs& args, const MassItem* items, int n_items, int64_t rows,
                       simt::Stream stream) {
    using Shared = PromptShared<KD, 0, prompt_tiles>;
    if (f.k_dim == KD) {
        const simt::Grid grid{int(ceil_div(rows, Shared::rows)), n_items, threads, Shared::bytes};
        simt::launch(mass_prompt<KD, prompt_tiles>, grid, stream, args, items);
    }
}

}  // namespace

void launch_mass(const AttendParams& p, const MassItem* items, int n_items, int64_t rows, bool prompt_class, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    const PageKind kind = *kind_of(f);
    // The same kernels' logits as attend's (launch_prompt).
    if (prompt_class && kind != PageKind::bf16_rows) {
        const PromptArgs args = prompt_args(p, nullptr);
#define KVC_CUDA_LAUNCH_DIM(KD) launch_prompt_dim<KD>(f, args, items, n_items, rows, stream);
        KVC_CUDA_KEY_DIMS(KVC_CUDA_LAUNCH_DIM)
#undef KVC_CUDA_LAUNCH_DIM
        return;
    }
    const MassLaunch launch{f, attend_args(p, nullptr), items, int(ceil_div(rows, tile_rows)), n_items, stream};
    launch_mass_of_pairs(kind, launch);
    launch_mass_of_groups(kind, launch);
    launch_mass_of_rows(kind, launch);
}

}  // namespace kvc::cuda

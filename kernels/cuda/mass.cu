#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mass.cuh"
#include "kernels/cuda/prompt_launch.cuh"

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

template <int KD, int VD, PageKind kind>
void launch_kind(const AttendArgs& args, const MassItem* items, int n_items, int blocks, simt::Stream stream) {
    if (args.soft_cap > 0.0f) {
        simt::launch(mass_decode<KD, VD, kind, true>, blocks, n_items, threads, stream, args, items);
    } else {
        simt::launch(mass_decode<KD, VD, kind, false>, blocks, n_items, threads, stream, args, items);
    }
}

template <int KD, int VD>
void launch_dims(const LayerFormat& f, const AttendArgs& args, const MassItem* items, int n_items, int blocks, simt::Stream stream) {
    if (f.k_dim != KD || f.v_dim != VD) {
        return;
    }
    if (f.lossless) {
        launch_kind<KD, VD, PageKind::rows>(args, items, n_items, blocks, stream);
    } else {
        launch_kind<KD, VD, PageKind::int4>(args, items, n_items, blocks, stream);
    }
}

}  // namespace

void launch_mass(const AttendParams& p, const MassItem* items, int n_items, int64_t rows, bool prompt_class, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    const PromptArgs args = prompt_args(p, nullptr);
    if (prompt_class) {
#define KVC_CUDA_LAUNCH_DIM(KD) launch_prompt_dim<KD>(f, args, items, n_items, rows, stream);
        KVC_CUDA_KEY_DIMS(KVC_CUDA_LAUNCH_DIM)
#undef KVC_CUDA_LAUNCH_DIM
        return;
    }
    const int blocks = int(ceil_div(rows, tile_rows));
#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_dims<KD, VD>(f, args.attend, items, n_items, blocks, stream);
    KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)
#undef KVC_CUDA_LAUNCH_DIMS
}

}  // namespace kvc::cuda

#include "kernels/cuda/attend_prompt.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prompt_launch.cuh"

namespace kvc::cuda {
namespace {

template <int KD, int VD, int tiles>
void launch_tiles(const PromptArgs& args, int64_t rows, int n_items, simt::Stream stream) {
    using Shared = PromptShared<KD, VD, tiles>;
    const simt::Grid grid{int(ceil_div(rows, Shared::rows)), n_items, threads, Shared::bytes};
    simt::launch(attend_prompt<KD, VD, tiles, false>, grid, stream, args);
}

template <int KD, int VD>
void launch_dims(const LayerFormat& f, const PromptArgs& args, int64_t rows, int n_items, simt::Stream stream) {
    if (f.k_dim != KD || f.v_dim != VD) {
        return;
    }
    // Outputs of more than 128 channels of 32 rows do not fit a warp's registers.
    if constexpr (VD <= 128) {
        if (rows > PromptShared<KD, VD, 1>::rows) {
            launch_tiles<KD, VD, 2>(args, rows, n_items, stream);
            return;
        }
    }
    launch_tiles<KD, VD, 1>(args, rows, n_items, stream);
}

}  // namespace

void launch_prompt(const AttendParams& p, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    if (p.rope || f.bf16_window) {
        launch_general(p, items, n_items, rows, stream);
        return;
    }
    const PromptArgs args = prompt_args(p, items);
#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_dims<KD, VD>(f, args, rows, n_items, stream);
    KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)
#undef KVC_CUDA_LAUNCH_DIMS
}

}  // namespace kvc::cuda

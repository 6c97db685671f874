// Keys before RoPE: explicit dequantization in both classes, in the manner of the prompt kernel.
#include "kernels/cuda/attend_prompt.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prompt_launch.cuh"
#include "kernels/cuda/turn.cuh"

namespace kvc::cuda {
namespace {

template <int KD, int VD>
void launch_dims(const LayerFormat& f, const PromptArgs& args, int64_t rows, int n_items, simt::Stream stream) {
    using Shared = PromptShared<KD, VD, 1>;
    if (f.k_dim == KD && f.v_dim == VD) {
        const simt::Grid grid{int(ceil_div(rows, Shared::rows)), n_items, threads, Shared::bytes};
        simt::launch(attend_prompt<KD, VD, 1, true>, grid, stream, args);
    }
}

}  // namespace

void launch_general(const AttendParams& p, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream) {
    const LayerFormat& f = *p.format;
    const PromptArgs args = prompt_args(p, items);
#define KVC_CUDA_LAUNCH_DIMS(KD, VD) launch_dims<KD, VD>(f, args, rows, n_items, stream);
    KVC_CUDA_HEAD_DIMS(KVC_CUDA_LAUNCH_DIMS)
#undef KVC_CUDA_LAUNCH_DIMS
}

}  // namespace kvc::cuda

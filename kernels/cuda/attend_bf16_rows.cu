#include "kernels/cuda/attend_launch.cuh"

namespace kvc::cuda {

KVC_CUDA_DEFINE_LAUNCH(bf16_rows)

}  // namespace kvc::cuda

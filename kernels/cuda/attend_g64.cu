// Keys in groups of 64 tokens.
#include "kernels/cuda/attend_launch.cuh"

namespace kvc::cuda {

KVC_CUDA_DEFINE_LAUNCH(int4_g64m8)
KVC_CUDA_DEFINE_LAUNCH(int2_g64m8)
KVC_CUDA_DEFINE_LAUNCH(int4_g64)
KVC_CUDA_DEFINE_LAUNCH(int2_g64)

}  // namespace kvc::cuda

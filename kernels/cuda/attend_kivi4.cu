#include "kernels/cuda/attend_launch.cuh"

namespace kvc::cuda {

KVC_CUDA_DEFINE_LAUNCH(kivi4)

}  // namespace kvc::cuda

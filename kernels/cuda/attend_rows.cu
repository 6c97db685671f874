#include "kernels/cuda/attend_launch.cuh"

namespace kvc::cuda {

KVC_CUDA_DEFINE_LAUNCH(rows)

}  // namespace kvc::cuda

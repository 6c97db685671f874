#include "kernels/cuda/attend_launch.cuh"

namespace kvc::cuda {

KVC_CUDA_DEFINE_LAUNCH(k8v4)
KVC_CUDA_DEFINE_LAUNCH(k4v2)

}  // namespace kvc::cuda

// One of the kernels, to ask the runtime whether the build has code for a device: all are compiled for the same architectures.
#pragma once

namespace kvc::cuda {

const void* any_kernel();

}  // namespace kvc::cuda

// Everything that a kernel asks of the machine: who it is, warp primitives, tensor-core products, shared memory, launches.
// One kernel source serves two machines: nvcc takes the device side, any C++ compiler the emulator of kernels/simt.
#pragma once
#ifdef __CUDACC__
#include "kernels/cuda/device.cuh"
#elif defined(KVC_CUDA_RUNTIME)
// Host sources of the library: they know layouts and launchers, and ask no machine.
#include "kernels/cuda/stream.h"
#define KVC_HOST_DEVICE inline
namespace kvc::simt {
using Stream = cuda::Stream;
}
#else
#include "kernels/simt/host.h"
#endif

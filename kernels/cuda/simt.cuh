// Everything that a kernel asks of the machine: who it is, warp primitives, tensor-core products, shared memory, launches.
// One kernel source serves two machines: nvcc takes the device side, any C++ compiler the emulator of kernels/simt.
#pragma once
#ifdef __CUDACC__
#include "kernels/cuda/device.cuh"
#else
#include "kernels/simt/host.h"
#endif

// The one stream of the program, for the files that launch kernels.
#pragma once
#include "bench/gpu/device.h"
#include "kernels/cuda/simt.cuh"

namespace kvc_bench {

kvc::simt::Stream device_stream();

}  // namespace kvc_bench

// A queue of work on a device, as launchers and host code pass it on.
#pragma once

#if defined(__CUDACC__) || defined(KVC_CUDA_RUNTIME)
struct CUstream_st;
namespace kvc::cuda {
using Stream = CUstream_st*;  // cudaStream_t, without its header
}
#else
namespace kvc::simt {
class Machine;
}
namespace kvc::cuda {
using Stream = simt::Machine*;
}
#endif

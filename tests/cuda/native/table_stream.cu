// The GPU's side of kernels/simt/table_stream.h.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/simt/machine.h"
#include "kernels/simt/table_stream.h"
#include "tests/cuda/native/pool.h"

namespace kvc::simt {

const char* const table_name = "cuda-native";

Stream table_stream() {
    static const cudaStream_t stream = [] {
        cudaStream_t s = nullptr;
        if (const cudaError_t error = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking); error != cudaSuccess) {
            throw Fault(std::string("no stream: ") + cudaGetErrorString(error));
        }
        return s;
    }();
    return stream;
}

void finish_launches() {
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) {
        throw Fault(std::string("a launch was refused: ") + cudaGetErrorString(error));
    }
    if (const cudaError_t error = cudaStreamSynchronize(table_stream()); error != cudaSuccess) {
        // Whatever runs after a kernel that failed fails, too, so the first is the one to see; abort lets doctest name its test case.
        std::fprintf(stderr, "a kernel failed: %s\n", cudaGetErrorString(error));
        std::abort();
    }
}

void require_readable(std::initializer_list<const void*> addresses) {
    for (const void* const p : addresses) {
        if (p && !kvc_test::in_pool(p)) {
            throw Fault("a test hands over an address that the GPU cannot read");
        }
    }
}

}  // namespace kvc::simt

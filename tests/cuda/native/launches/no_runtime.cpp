// The functions of the runtime that code by nvcc calls, as toolkits from 12 on declare them; 13 has kernels by handles.
#include "tests/cuda/native/launches/no_runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime_api.h>

namespace kvc_test {
namespace {

struct Runtime {
    int architecture = 0;
    std::map<const void*, std::string> names;      // of kernels, by their host functions
    std::map<const void*, size_t> dynamic_limits;  // what launches may ask for, where more than by default
    std::map<std::string, size_t> launched;
    size_t next_shared = 0;  // of the launch that is being made
};

// Kernels register before main().
Runtime& runtime() {
    static Runtime instance;
    return instance;
}

// What every kernel may ask for without a word.
constexpr size_t dynamic_by_default = size_t{48} * 1024;

cudaError_t note_launch(const void* kernel, size_t shared) {
    Runtime& r = runtime();
    const auto name = r.names.find(kernel);
    const auto limit = r.dynamic_limits.find(kernel);
    if (name == r.names.end() || shared > (limit == r.dynamic_limits.end() ? dynamic_by_default : limit->second)) {
        std::fprintf(stderr, "launches: %s asks for %zu bytes that it did not announce\n",
                     name == r.names.end() ? "an unknown kernel" : name->second.c_str(), shared);
        std::exit(EXIT_FAILURE);
    }
    size_t& most = r.launched[name->second];
    most = shared > most ? shared : most;
    return cudaSuccess;
}

}  // namespace

void set_architecture(int architecture) {
    runtime().architecture = architecture;
    runtime().dynamic_limits.clear();
    runtime().launched.clear();
}

const std::map<std::string, size_t>& launched_kernels() { return runtime().launched; }

}  // namespace kvc_test

// NOLINTBEGIN(bugprone-reserved-identifier): the names are nvcc's.
extern "C" {

void** __cudaRegisterFatBinary(void*) {
    static void* handle = nullptr;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
    kvc_test::runtime().names[host] = name;
}

unsigned __cudaPushCallConfiguration(dim3, dim3, size_t shared, cudaStream_t) {
    kvc_test::runtime().next_shared = shared;
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t* shared, void*) {
    *shared = kvc_test::runtime().next_shared;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host));
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void**, size_t shared, cudaStream_t) {
    return kvc_test::note_launch(kernel, shared);
}
cudaError_t cudaLaunchKernel(const void* host, dim3, dim3, void**, size_t shared, cudaStream_t) {
    return kvc_test::note_launch(host, shared);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    *attributes = {};
    attributes->binaryVersion = attributes->ptxVersion = kvc_test::runtime().architecture;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        kvc_test::runtime().dynamic_limits[kernel] = size_t(value);
    }
    return cudaSuccess;
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier)

// kvc_cuda_native_tests: the kernel tests of all tables over the CUDA kernels on a GPU.
//     kvc_cuda_native_tests [--every N] [--managed] [doctest's options]
// Exits with 77 where there is no GPU. --every: every n-th combination of the largest grids, for slow tools; see grid_stride().
// --managed: the tests' memory is managed instead of pinned.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include "kernels/simt/table.h"
#include "tests/cuda/native/pool.h"
#include "tests/kernels/head.h"

namespace {

constexpr int no_device = 77;
constexpr size_t pool_bytes = size_t{1} << 30;

int every = 1;

}  // namespace

namespace kvc_test {

std::vector<const KernelTable*> tables_under_test() { return {kvc::simt::cuda_table()}; }

int grid_stride() { return every; }

}  // namespace kvc_test

int main(int argc, char** argv) {
    cudaDeviceProp device{};
    if (const cudaError_t error = cudaGetDeviceProperties(&device, 0); error != cudaSuccess) {
        std::fprintf(stderr, "no GPU: %s\n", cudaGetErrorString(error));
        return no_device;
    }
    kvc_test::PoolMemory memory = kvc_test::PoolMemory::pinned;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--managed") == 0) {
            memory = kvc_test::PoolMemory::managed;
        } else if (std::strcmp(argv[i], "--every") == 0) {
            every = i + 1 < argc ? std::atoi(argv[i + 1]) : 0;
        }
    }
    if (every < 1) {
        std::fprintf(stderr, "--every: expected a number from 1 on\n");
        return EXIT_FAILURE;
    }
    if (!kvc_test::open_pool(pool_bytes, memory)) {
        std::fprintf(stderr, "no %zu bytes of memory that the host and the GPU share\n", pool_bytes);
        return EXIT_FAILURE;
    }
    std::printf("%s, compute capability %d.%d\n", device.name, device.major, device.minor);
    return doctest::Context(argc, argv).run();
}

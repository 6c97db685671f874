// kvc_cuda_native_tests: the kernel tests of all tables over the CUDA kernels on a GPU.
//     kvc_cuda_native_tests [--every N] [doctest's options]
// Exits with 77 where there is no GPU. --every: every n-th combination of the largest grids, for slow tools; see grid_stride().
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
    if (argc > 2 && std::strcmp(argv[1], "--every") == 0) {
        every = std::atoi(argv[2]);
        if (every < 1) {
            std::fprintf(stderr, "--every %s: expected a number from 1 on\n", argv[2]);
            return EXIT_FAILURE;
        }
    }
    if (!kvc_test::open_pool(pool_bytes)) {
        std::fprintf(stderr, "no %zu bytes of pinned memory\n", pool_bytes);
        return EXIT_FAILURE;
    }
    std::printf("%s, compute capability %d.%d\n", device.name, device.major, device.minor);
    return doctest::Context(argc, argv).run();
}

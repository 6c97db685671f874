// How much shared memory an architecture gives. It decides how kernels read and what their launches ask for, never what they compute.
#pragma once
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

constexpr int bulk_copies_since = 90;    // the first architecture that has them, as in sm_90
constexpr int shared_of_runtime = 1024;  // in each block, beside its own

// What a block may have, static and dynamic together. A multiprocessor has one KB more.
KVC_HOST_DEVICE constexpr int block_shared_of(int arch) {
    const bool small = arch == 86 || arch == 89 || arch >= 120;
    return (small ? 99 : arch < 90 ? 163 : 227) * 1024;
}

// What a block may have on every architecture.
constexpr int block_shared_max = 99 * 1024;

// What a block of code for an architecture asks for at most, on whatever device it runs: only rings for bulk copies take more.
KVC_HOST_DEVICE constexpr int block_shared_asked(int code) {
    return code < bulk_copies_since ? block_shared_max : block_shared_of(code);
}

}  // namespace kvc::cuda

// Attention mass of runs, out of what attend left of each row's softmax of them.
#pragma once
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// What a row's sum of a run is of the whole, in units of 2^-30. A row that saw nothing has an lse of -infinity; of one that is no number
// the sum is none, either.
KVC_DEVICE int mass_of_sum(const PageSum& page, float lse) {
    const float p = page.sum * simt::exp2((page.reference - lse) * log2_e);
    return lse > -simt::infinity() && p > 0.0f ? simt::round_to_int((p < 1.0f ? p : 1.0f) * 0x1p30f) : 0;
}

// A warp for each run (blockIdx.x) of a job (blockIdx.y), its lanes along the rows: eight bytes of each.
KVC_KERNEL(threads, 1) count_pages(const PageMassJob* jobs, int64_t group) {
    const PageMassJob& job = jobs[simt::block_y()];
    const int64_t run = int64_t{simt::block_x()} * warps + simt::warp();
    if (run >= job.runs) {
        return;
    }
    const int64_t rows = job.tokens * group;
    long long sum = 0;
    for (int64_t row = simt::lane(); row < rows; row += 32) {
        sum += mass_of_sum(job.sums[run * rows + row], job.lse[row / group * job.lse_token_stride + row % group]);
    }
    KVC_UNROLL
    for (int distance = 1; distance < 32; distance *= 2) {
        sum += simt::shuffle_xor(sum, distance);
    }
    if (simt::lane() == 0) {
        job.counters[run] = sum;
    }
}

}  // namespace kvc::cuda

// Means of tokens that come together, a warp for each: sums member by member in doubles, as on the host, so that their bits are the same;
// for translation units without contraction of multiply and add (-fmad=false).
// Reads each member once, in pieces of a word; bound by their latency.
#pragma once
#include "kernels/cuda/merge_launch.h"
#include "kernels/cuda/token_rows.cuh"

namespace kvc::cuda {

struct MeansArgs {
    const MeansJob* jobs;
    int k_dim, v_dim;
    bool k_rotated, v_rotated, new_keys;
};

constexpr int channels_of_lane = dim_limit / 32;

// Members begin .. end - 1, each as often as it weighs.
KVC_DEVICE void mean_of(const RowReader& reader, const int64_t* weights, int64_t begin, int64_t end, SharedRow* row, float* out) {
    double sum[channels_of_lane] = {}, all = 0;
    for (int64_t member = begin; member < end; member++) {
        reader.read(member, row);
        const double weight = double(weights[member]);
        all += weight;
        KVC_UNROLL
        for (int j = 0; j < channels_of_lane; j++) {
            const int d = simt::lane() + 32 * j;
            if (d < reader.dim) {
                sum[j] += weight * double(row->x[d]);
            }
        }
        simt::sync_warp();
    }
    KVC_UNROLL
    for (int j = 0; j < channels_of_lane; j++) {
        const int d = simt::lane() + 32 * j;
        if (d < reader.dim) {
            out[d] = float(sum[j] / all);
        }
    }
}

KVC_KERNEL(threads, 4) mean_rows(MeansArgs args) {
    struct Rows {
        SharedRow row[warps];
    };
    KVC_SHARED(Rows, shared);
    const MeansJob job = args.jobs[simt::block_y()];
    const int64_t fold = int64_t{simt::block_x()} * warps + simt::warp();
    if (fold >= job.folds) {
        return;
    }
    SharedRow* const row = &shared.row[simt::warp()];
    const int64_t begin = fold ? job.ends[fold - 1] : 0, end = job.ends[fold];
    float* const out = job.rows + fold * (args.k_dim + args.v_dim);
    const RowReader keys{job.pages, job.places, true, args.k_dim, args.k_rotated};
    if (args.new_keys) {
        mean_of(keys, job.weights, begin, end, row, out);
    } else {
        keys.read(begin, row);
        for (int d = simt::lane(); d < args.k_dim; d += 32) {
            out[d] = row->x[d];
        }
        simt::sync_warp();
    }
    const RowReader values{job.pages, job.places, false, args.v_dim, args.v_rotated};
    mean_of(values, job.weights, begin, end, row, out + args.k_dim);
}

}  // namespace kvc::cuda

// Statistics of keys and lengths of values. A block takes a run of 32 tokens of one head, a thread sums up a token: sums go channel by
// channel, as on the host, so that their bits are the same; for translation units without contraction of multiply and add (-fmad=false).
// Reads the keys of each token once (alignment: twice); bound by that, and on GPUs with few units for doubles by these.
#pragma once
#include "kernels/cuda/measure_launch.h"
#include "kernels/cuda/token_rows.cuh"

namespace kvc::cuda {

struct MeasureArgs {
    const MeasureJob* jobs;
    KeyStatistic statistic;
    int dim;
    bool rotated;
    double scale;  // 1 / sqrt(dim)
};

KVC_DEVICE double square_of(const float* row, int dim) {
    double square = 0;
    for (int d = 0; d < dim; d++) {
        square += double(row[d]) * double(row[d]);
    }
    return square;
}

KVC_DEVICE double length_of(const float* row, int dim) {
    const double square = square_of(row, dim);
    return square > 0 ? simt::square_root(square) : 1.0;
}

KVC_DEVICE double logit_of(const float* row, int dim, double scale, const double* mean, const double* variance) {
    double logit = 0;
    for (int d = 0; d < dim; d++) {
        const double x = double(row[d]) * scale;
        logit += x * (mean[d] + x * variance[d] / 2);
    }
    return logit;
}

// Tokens of the block's run; 0: it has none.
KVC_DEVICE int tokens_of_run(const MeasureJob& job) {
    const int64_t left = job.tokens - int64_t{simt::block_x()} * run_tokens;
    return left <= 0 ? 0 : left < run_tokens ? int(left) : run_tokens;
}

KVC_DEVICE RowReader reader_of(const MeasureJob& job, const MeasureArgs& args, bool keys) {
    return {job.pages, job.places, keys, args.dim, args.rotated};
}

KVC_KERNEL(threads, 4) measure_keys(MeasureArgs args) {
    struct Shared {
        RunRows rows;
        double length[run_tokens];
    };
    KVC_SHARED(Shared, s);
    const MeasureJob job = args.jobs[simt::block_y()];
    const int n = tokens_of_run(job);
    if (n == 0) {
        return;
    }
    const int64_t first = int64_t{simt::block_x()} * run_tokens;
    gather_run(reader_of(job, args, true), first, n, &s.rows);
    if (args.statistic == KeyStatistic::logits) {
        for (int64_t i = simt::thread(); i < n * job.heads; i += threads) {
            const int64_t t = i % n, h = i / n;
            job.out[h * job.tokens + first + t] =
                logit_of(s.rows.x[t], args.dim, args.scale, job.mean + h * args.dim, job.variance + h * args.dim);
        }
        return;
    }
    const int t = simt::thread();
    if (t < n && args.statistic == KeyStatistic::square) {
        job.out[first + t] = square_of(s.rows.x[t], args.dim);
    } else if (t < n) {  // of all others, and of none
        job.lengths[first + t] = s.length[t] = length_of(s.rows.x[t], args.dim);
    }
    if (args.statistic != KeyStatistic::alignment) {
        return;
    }
    simt::sync_block();
    for (int d = simt::thread(); d < args.dim; d += threads) {
        double sum = 0;
        for (int u = 0; u < n; u++) {
            sum += double(s.rows.x[u][d]) / s.length[u];
        }
        job.runs[int64_t{simt::block_x()} * args.dim + d] = sum;
    }
}

// One block a job: the runs' sums in their order. A thread's additions wait for each other, its loads do not.
KVC_KERNEL(threads, 4) sum_runs(MeasureArgs args) {
    const MeasureJob job = args.jobs[simt::block_y()];
    const int64_t runs = (job.tokens + run_tokens - 1) / run_tokens;
    for (int d = simt::thread(); d < args.dim; d += threads) {
        double sum = 0;
        for (int64_t run = 0; run < runs; run++) {
            sum += job.runs[run * args.dim + d];
        }
        job.sum[d] = sum;
    }
}

KVC_KERNEL(threads, 4) align_keys(MeasureArgs args) {
    KVC_SHARED(RunRows, rows);
    const MeasureJob job = args.jobs[simt::block_y()];
    const int n = tokens_of_run(job), t = simt::thread();
    if (n == 0) {
        return;
    }
    const int64_t first = int64_t{simt::block_x()} * run_tokens;
    gather_run(reader_of(job, args, true), first, n, &rows);
    if (t < n) {
        double dot = 0;
        for (int d = 0; d < args.dim; d++) {
            dot += double(rows.x[t][d]) * job.sum[d];
        }
        job.out[first + t] = dot / job.lengths[first + t];
    }
}

KVC_KERNEL(threads, 4) measure_values(MeasureArgs args) {
    KVC_SHARED(RunRows, rows);
    const MeasureJob job = args.jobs[simt::block_y()];
    const int n = tokens_of_run(job), t = simt::thread();
    if (n == 0 || !job.value_norms) {
        return;
    }
    const int64_t first = int64_t{simt::block_x()} * run_tokens;
    gather_run(reader_of(job, args, false), first, n, &rows);
    if (t < n) {
        job.value_norms[first + t] = float(simt::square_root(square_of(rows.x[t], args.dim)));
    }
}

}  // namespace kvc::cuda

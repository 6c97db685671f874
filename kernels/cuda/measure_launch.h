// Numbers of tokens for policies (core/backend/key_statistics.h): jobs as they travel to the device, and their launches.
#pragma once
#include "core/backend/key_statistics.h"
#include "kernels/cuda/source_page.h"

namespace kvc::cuda {

// One (layer, kv head). All jobs of a launch have the same format and statistic.
struct MeasureJob {
    const SourcePage* pages;
    const uint32_t* places;
    int64_t tokens;
    int64_t heads;
    const double *mean, *variance;  // [heads][k_dim]
    double* out;                    // [heads][tokens]
    float* value_norms;             // or nullptr
    // Of alignment and similarity.
    double* lengths;  // [tokens]
    double* runs;     // [runs of tokens][k_dim]: sums of their unit keys
    double* sum;      // [k_dim]
};

inline int64_t runs_of(int64_t tokens) { return (tokens + statistic_run - 1) / statistic_run; }

void launch_measure(const LayerFormat& format, KeyStatistic statistic, const MeasureJob* jobs, int n_jobs, int64_t most_tokens,
                    simt::Stream stream);
// lengths of all jobs alone.
void launch_lengths(const LayerFormat& format, const MeasureJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream);
// value_norms of all jobs.
void launch_measure_values(const LayerFormat& format, const MeasureJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream);

}  // namespace kvc::cuda

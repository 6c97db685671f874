// Merging (core/backend/fold.h): jobs as they travel to the device, and their launches.
#pragma once
#include "core/backend/fold.h"
#include "kernels/cuda/measure_launch.h"

namespace kvc::cuda {

// Keys of a head, whose lengths launch_lengths has left.
struct KeyList {
    const SourcePage* pages;
    const uint32_t* places;
    double* lengths;
    int64_t n;
};

// One head. All jobs of a launch have the same format.
struct MatchJob {
    KeyList leaving, kept;
    double least;
    int64_t* out;
};
void launch_match(const LayerFormat& format, const MatchJob* jobs, int n_jobs, int64_t most_leaving, simt::Stream stream);

struct MeansJob {
    const SourcePage* pages;
    const uint32_t* places;
    const int64_t* weights;
    const int64_t* ends;
    int64_t folds;
    float* rows;
};
void launch_means(const LayerFormat& format, bool new_keys, const MeansJob* jobs, int n_jobs, int64_t most_folds, simt::Stream stream);

}  // namespace kvc::cuda

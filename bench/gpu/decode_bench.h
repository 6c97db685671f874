// Decode attention: one token for each sequence, timed, and compared with attention in double precision.
#pragma once
#include <string>
#include <vector>

#include "bench/gpu/decode_cache.h"

namespace kvc_bench {

struct DecodeResult {
    int64_t split_tokens = 0;                // how many tokens of coded pages an item has; the fastest of those that were tried
    double us = 0, us_low = 0, us_high = 0;  // a step of one layer: attention and finish; median and extremes of the samples
    double attend_us = 0;                    // the attention alone, same split
    std::vector<std::pair<int64_t, double>> us_of_split;
    int64_t bytes = 0;  // of records read in a step
    double bytes_per_element = 0;
    double out_error = 0, lse_error = 0;  // relative error of sampled rows, and the largest difference of log-sum-exps
    int64_t rows_checked = 0;
};

struct DecodeOptions {
    std::vector<int64_t> split_tokens;
    int samples = 9;
    int launches = 20;  // at least, in a sample
    int64_t rows_checked = 3;
};

DecodeResult bench_decode(const DecodeCache& cache, const DecodeOptions& options);

// Relative and absolute limits of the check.
constexpr double out_error_limit = 3e-3, lse_error_limit = 2e-3;

}  // namespace kvc_bench

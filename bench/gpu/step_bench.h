// A step of one layer, timed, and compared with attention in double precision.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "bench/gpu/exact_row.h"

namespace kvc_bench {

struct StepResult {
    int64_t split_tokens = 0;                // how many tokens of coded pages an item has in a step of the library, which this is
    double us = 0, us_low = 0, us_high = 0;  // attention and finish; median and extremes of the samples
    double attend_us = 0;                    // the attention alone
    double mass_us = 0;                      // summing the probabilities of a decode step, which comes on top; 0: not measured
    double page_us = 0;                      // the whole step with scores of pages, which attention leaves by the way; 0: not measured
    double mass_error = 0;                   // of the sum over all tokens of a head, or over all its pages, relative
    std::vector<std::pair<int64_t, double>> us_of_split;  // the same, and what it were with other lengths
    int64_t bytes = 0;                                    // of records that a step must read
    double bytes_per_element = 0;
    double products = 0;  // floating-point operations of the two matrix products, over what queries see
    Errors errors;

    bool is_right() const { return errors.are_small() && mass_error <= 1e-3; }
};

struct StepOptions {
    std::vector<int64_t> other_splits;  // tokens; tried and checked, too, beside the library's length
    int samples = 9;
    int launches = 20;  // at least, in a sample
    int64_t rows_checked = 3;
};

StepResult bench_step(const DecodeCache& cache, const StepOptions& options);

}  // namespace kvc_bench

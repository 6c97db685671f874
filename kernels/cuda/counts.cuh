// Tokens that others joined: what their counts add to logits.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

// log(count) of the token at a position; 0 for one that stands for itself.
KVC_DEVICE float log_count_at(const AttendItem& item, int64_t position) {
    int64_t from = 0, end = item.n_counts;
    while (from < end) {
        const int64_t middle = from + (end - from) / 2;
        if (item.counts[middle].position < position) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from < item.n_counts && item.counts[from].position == position ? item.counts[from].log_count : 0.0f;
}

}  // namespace kvc::cuda

// Tokens that others joined: what their counts add to logits.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

// The number of the first count at a position or above it.
KVC_DEVICE int64_t first_count(const AttendItem& item, int64_t position) {
    int64_t from = 0, end = item.n_counts;
    while (from < end) {
        const int64_t middle = from + (end - from) / 2;
        if (item.counts[middle].position < position) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from;
}

// log(count) of the token at a position; 0 for one that stands for itself.
KVC_DEVICE float log_count_at(const AttendItem& item, int64_t position) {
    const int64_t i = first_count(item, position);
    return i < item.n_counts && item.counts[i].position == position ? item.counts[i].log_count : 0.0f;
}

// Whether tokens first .. last may have counts.
KVC_DEVICE bool has_counts(const AttendItem& item, int64_t first, int64_t last) {
    if (item.n_counts == 0) {
        return false;
    }
    const int64_t i = first_count(item, first);
    return i < item.n_counts && item.counts[i].position <= last;
}

}  // namespace kvc::cuda

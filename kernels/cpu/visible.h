// Which tokens of a page a query sees.
#pragma once
#include "core/backend/kernel_table.h"

namespace kvc {
namespace {

// Bits low .. high - 1; both are clamped to 0 .. 64.
inline uint64_t bits_between(int64_t low, int64_t high) {
    low = low < 0 ? 0 : low;
    high = high > page_tokens ? page_tokens : high;
    if (low >= high) {
        return 0;
    }
    return (all_live >> (page_tokens - (high - low))) << low;
}

// The oldest position that the query at position i sees; positions are not negative, and a window may be INT64_MAX wide.
inline int64_t oldest_seen(const AttendParams& params, int64_t i) {
    return params.sliding_window > i ? 0 : i - params.sliding_window + 1;
}

// Of tokens at positions first .. first + 63, those that the query at position i sees by causality and window.
inline uint64_t visible_run(const AttendParams& params, int64_t first, int64_t i) {
    return bits_between(oldest_seen(params, i) - first, i + params.causal_offset + 1 - first);
}

inline uint64_t visible_tokens(const AttendParams& params, const PageEntry& entry, int64_t first, int64_t i) {
    if (!entry.side) {
        return visible_run(params, first, i) & entry.live;
    }
    const auto* side = reinterpret_cast<const PageSide*>(params.arena.at(entry.side, side_bytes));
    const int64_t oldest = oldest_seen(params, i);
    uint64_t seen = 0;
    for (int t = 0; t < page_tokens; ++t) {
        const int64_t j = side->positions[t];
        const bool sees = (entry.live >> t & 1) != 0 && j <= i + params.causal_offset && j >= oldest;
        seen |= uint64_t{sees} << t;
    }
    return seen;
}

}  // namespace
}  // namespace kvc

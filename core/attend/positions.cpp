#include "core/attend/positions.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/half.h"

namespace kvc {

int64_t gap_behind_sinks(const LayerPages& pages, size_t head, const PageRule& rule, int64_t length, int64_t first_kept) {
    if (length <= rule.sinks) return first_kept * page_tokens;
    const HeadPages& tables = pages.heads[head];
    const PageState& state = pages.state;
    for (int64_t page = std::max(state.first_coded, first_kept); page < state.coded_end; page++) {
        const PageEntry& entry = tables.coded[size_t(page - state.first_coded)];
        if (entry.record && entry.live != 0) return page * page_tokens + std::countr_zero(entry.live);
    }
    // After a cut below the exact floor, pages whose tokens were all evicted can lie here too.
    const int64_t end = rule.pages(length);
    for (int64_t page = std::max({state.first_window, state.coded_end, first_kept}); page < end; page++) {
        const uint64_t live = tables.window[size_t(page - state.first_window)].live;
        if (live != 0) return page * page_tokens + std::countr_zero(live);
    }
    return std::max({end, state.coded_end, first_kept}) * page_tokens;
}

void turn_queries(const Rope& rope, int64_t gap, const void* q, Dtype dtype, int64_t stride, int64_t n, int64_t dim, float* out,
                  int64_t out_stride) {
    const auto number = [&](int64_t i) {
        if (dtype == Dtype::f32) return static_cast<const float*>(q)[i];
        const uint16_t bits = static_cast<const uint16_t*>(q)[i];
        return dtype == Dtype::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
    };
    for (int64_t row = 0; row < n; row++) {
        for (int64_t d = 0; d < dim; d++)
            out[row * out_stride + d] = number(row * stride + d);
    }
    const int64_t half = rope.dims / 2;
    for (int64_t i = 0; i < half; i++) {
        const double angle = -double(gap) * rope.frequencies[i];
        const double c = std::cos(angle), s = std::sin(angle);
        const int64_t first = rope.interleaved ? 2 * i : i, second = rope.interleaved ? 2 * i + 1 : i + half;
        for (int64_t row = 0; row < n; row++) {
            const double a = out[row * out_stride + first], b = out[row * out_stride + second];
            out[row * out_stride + first] = float(a * c - b * s);
            out[row * out_stride + second] = float(a * s + b * c);
        }
    }
}

}  // namespace kvc

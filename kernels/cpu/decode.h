// The decode class: every page is read once for the query heads of a group, up to four rows at a time, straight from its codes.
// Positions of one item are computed one after the other while the page is in the cache.
#pragma once
#include "kernels/cpu/expand.h"
#include "kernels/cpu/pages.h"
#include "kernels/cpu/queries.h"
#include "kernels/cpu/runs.h"
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/values.h"

namespace kvc::simd {
namespace {

// Rows to take at once when n are left: five are three and two, for a single row does not fill the vector units.
constexpr int64_t rows_of_next_block(int64_t n) { return n < row_block ? n : n == row_block + 1 && n > 3 ? 3 : row_block; }

// Calls visit(std::integral_constant<int, n>(), first row) for blocks of rows.
template <class Visit>
KVC_INLINE void for_each_row_block(int64_t rows, const Visit& visit) {
    const auto visit_rows = [&]<int n>(std::integral_constant<int, n> count, int64_t row) __attribute__((always_inline)) {
        if constexpr (n <= row_block) {
            visit(count, row);
        }
    };
    for (int64_t row = 0; row < rows;) {
        const int64_t n = rows_of_next_block(rows - row);
        switch (n) {
        case 1:
            visit_rows(std::integral_constant<int, 1>(), row);
            break;
        case 2:
            visit_rows(std::integral_constant<int, 2>(), row);
            break;
        case 3:
            visit_rows(std::integral_constant<int, 3>(), row);
            break;
        default:
            visit_rows(std::integral_constant<int, 4>(), row);
            break;
        }
        row += n;
    }
}

// Rows that see the tokens in `seen`, of which there is at least one; bias [64] or nullptr; state [rows][v_dim + 2]; sums [rows] or
// nullptr.
template <int rows>
void attend_row_block(const PageView& page, const QueryRows& queries, uint64_t seen, float soft_cap, const float* bias, float* state,
                      PageSum* sums) {
    alignas(64) float scores[rows * page_tokens];
    score_page<rows>(page.k, queries, scores);
    float* o[rows];
    for (int r = 0; r < rows; ++r) {
        o[r] = state + r * (page.v.dim + 2);
        finish_logits(scores + r * page_tokens, seen, soft_cap, bias);
        const PageSum sum = absorb_logits(scores + r * page_tokens, o[r], page.v.dim);
        if (sums) {
            sums[r] = sum;
        }
    }
    add_values<rows>(page.v, scores, __builtin_ctzll(seen), page_tokens - __builtin_clzll(seen), o);
}

inline void attend_decode(const AttendParams& params, const AttendItem& item, const Scratch& scratch) {
    const LayerFormat& f = *params.format;
    const QueryRows queries = query_rows(f, scratch);
    for_each_run(params, item, nullptr, [&](const Run& run) {
        PageView page = view_page(f, run, scratch.k_tile);
        for (int64_t t = 0; t < item.tokens; ++t) {
            const uint64_t seen = seen_by(params, run, item.first_position + t);
            if (!seen) {
                continue;
            }
            float* state = item.state + t * item.state_token_stride * (f.v_dim + 2);
            for_each_row_block(params.group, [&]<int rows>(std::integral_constant<int, rows>, int64_t row) {
                attend_row_block<rows>(page, queries.from(t * params.group + row), seen, params.soft_cap, run.bias,
                                       state + row * (f.v_dim + 2), run.sums ? run.sums + t * params.group + row : nullptr);
                page.k.ahead = page.v.ahead = 0;
            });
        }
    });
}

}  // namespace
}  // namespace kvc::simd

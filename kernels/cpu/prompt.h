// The prompt class: a page is turned into f32 tiles once, and all rows of the item (positions times query heads of the group) are
// multiplied with them, tile_rows at a time. A row's lanes are chains of FMAs over channels, then tokens, in their order; tokens that
// it does not see add exactly 0. So its bits do not depend on the other rows.
#pragma once
#include "kernels/cpu/pages.h"
#include "kernels/cpu/queries.h"
#include "kernels/cpu/softmax.h"

namespace kvc::simd {
namespace {

// Rows that are multiplied together, and what each of them sees.
struct RowBlock {
    int64_t first;  // row of the item
    uint64_t seen[tile_rows];
    uint64_t seen_by_any;
};

inline RowBlock rows_from(const AttendParams& params, const AttendItem& item, const Run& run, int64_t first, int64_t rows) {
    RowBlock block{first, {}, 0};
    int64_t token = -1;
    for (int64_t r = 0; r < rows; ++r) {
        const int64_t t = (first + r) / params.group;
        block.seen[r] = t == token ? block.seen[r - 1] : seen_by(params, run, item.first_position + t);
        block.seen_by_any |= block.seen[r];
        token = t;
    }
    return block;
}

// Calls visit(std::integral_constant<int, n>(), block) for the blocks of rows that see anything of the run.
template <int rows, class Visit>
KVC_INLINE void visit_row_block(const AttendParams& params, const AttendItem& item, const Run& run, int64_t first, const Visit& visit) {
    const RowBlock block = rows_from(params, item, run, first, rows);
    if (block.seen_by_any) {
        visit(std::integral_constant<int, rows>(), block);
    }
}

template <class Visit>
KVC_INLINE void for_each_tile_block(const AttendParams& params, const AttendItem& item, const Run& run, const Visit& visit) {
    const int64_t rows = item.tokens * params.group;
    int64_t row = 0;
    for (; row + tile_rows <= rows; row += tile_rows) {
        visit_row_block<tile_rows>(params, item, run, row, visit);
    }
    for (; row + 2 <= rows; row += 2) {
        visit_row_block<2>(params, item, run, row, visit);
    }
    for (; row < rows; ++row) {
        visit_row_block<1>(params, item, run, row, visit);
    }
}

// scores [rows][64] of rows q [rows][dim] with a key tile.
template <int rows>
KVC_INLINE void score_tile(const float* tile, const float* q, int64_t dim, float* scores) {
    for (int64_t tb = 0; tb < page_tokens / 16; ++tb) {
        Floats sums[rows];
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            sums[r] = broadcast(0.0f);
        }
        dot_floats<Element::f32, rows, 1>({reinterpret_cast<const std::byte*>(tile + tb * dim * 16), 0, 64, 0}, 0, dim, q, dim, sums);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            store(scores + r * page_tokens + tb * 16, sums[r]);
        }
    }
}

// o[r] += p v over tokens [first, last) of a value tile.
template <int rows>
KVC_INLINE void add_tile(const float* tile, const float* p, int64_t first, int64_t last, int64_t dim, float* const* o) {
    for (int64_t dt = 0; dt < dim / 16; ++dt) {
        Floats sums[rows];
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            sums[r] = load(o[r] + dt * 16);
        }
        dot_floats<Element::f32, rows, 1>({reinterpret_cast<const std::byte*>(tile + dt * page_tokens * 16), 0, 64, 0}, first, last, p,
                                          page_tokens, sums);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            store(o[r] + dt * 16, sums[r]);
        }
    }
}

inline void expand_run_keys(const LayerFormat& f, const Run& run, const PageView& page, float* tile) {
    // Keys of sinks were expanded by view_page.
    if (run.form != KernelTable::Form::sinks) {
        expand_keys(page.k, tile);
    } else {
        memset(tile + round_up(f.codec.sinks, 16) * f.k_dim, 0,
               size_t((page_tokens - round_up(f.codec.sinks, 16)) * f.k_dim) * sizeof *tile);
    }
}

inline void attend_prompt(const AttendParams& params, const AttendItem& item, const Scratch& scratch) {
    const LayerFormat& f = *params.format;
    for_each_run(params, item, nullptr, [&](const Run& run) {
        if (!seen_by_any(params, item, run)) {
            return;
        }
        const PageView page = view_page(f, run, scratch.k_tile);
        expand_run_keys(f, run, page, scratch.k_tile);
        expand_values(page.v, scratch.v_tile);
        for_each_tile_block(params, item, run, [&]<int rows>(std::integral_constant<int, rows>, const RowBlock& block) {
            alignas(64) float scores[rows * page_tokens];
            float* o[rows];
            score_tile<rows>(scratch.k_tile, scratch.q + block.first * f.k_dim, f.k_dim, scores);
            for (int r = 0; r < rows; ++r) {
                const int64_t row = block.first + r;
                o[r] = item.state + (row / params.group * item.state_token_stride + row % params.group) * (f.v_dim + 2);
                if (!block.seen[r]) {
                    memset(scores + r * page_tokens, 0, page_tokens * sizeof *scores);
                    continue;
                }
                finish_logits(scores + r * page_tokens, block.seen[r], params.soft_cap, run.bias);
                const PageSum sum = absorb_logits(scores + r * page_tokens, o[r], f.v_dim);
                if (run.sums) {
                    run.sums[row] = sum;
                }
            }
            add_tile<rows>(scratch.v_tile, scores, __builtin_ctzll(block.seen_by_any), page_tokens - __builtin_clzll(block.seen_by_any),
                           f.v_dim, o);
        });
    });
}

}  // namespace
}  // namespace kvc::simd

// Attention mass: the logits of attend once more, against the final log-sum-exp, in units of 2^-30.
#pragma once
#include "kernels/cpu/decode.h"
#include "kernels/cpu/prompt.h"

namespace kvc::simd {
namespace {

// Adds round(2^30 exp(logit - lse)) of the tokens in `seen` to their counters.
inline void add_mass(const float* logits, uint64_t seen, float lse, int64_t* counters) {
    if (!(lse > minus_infinity)) {
        return;
    }
    int32_t mass[page_tokens];
    for (int64_t t = 0; t < page_tokens; t += 16) {
        const Floats p = exponential(sub(load(logits + t), broadcast(lse)));
        store(mass + t, round_to_ints(mul(min(p, broadcast(1.0f)), broadcast(0x1p30f))));
    }
    // Counters of sinks end with the last token.
    const int64_t last = page_tokens - __builtin_clzll(seen);
    for (int64_t t = __builtin_ctzll(seen); t < last; ++t) {
        counters[t] += mass[t];
    }
}

inline void mass_decode(const AttendParams& params, const MassItem& mass, const Scratch& scratch) {
    const AttendItem& item = mass.item;
    const QueryRows queries = query_rows(*params.format, scratch);
    for_each_run(params, item, &mass, [&](const Run& run) {
        const PageView page = view_page(*params.format, run, scratch.k_tile);
        for (int64_t t = 0; t < item.tokens; ++t) {
            const uint64_t seen = seen_by(params, run, item.first_position + t);
            if (!seen) {
                continue;
            }
            for_each_row_block(params.group, [&]<int rows>(std::integral_constant<int, rows>, int64_t row) {
                alignas(64) float scores[rows * page_tokens];
                score_page<rows>(page.k, queries.from(t * params.group + row), scores);
                for (int r = 0; r < rows; ++r) {
                    finish_logits(scores + r * page_tokens, seen, params.soft_cap, run.bias);
                    add_mass(scores + r * page_tokens, seen, mass.lse[t * mass.lse_token_stride + row + r], run.mass);
                }
            });
        }
    });
}

inline void mass_prompt(const AttendParams& params, const MassItem& mass, const Scratch& scratch) {
    const AttendItem& item = mass.item;
    const LayerFormat& f = *params.format;
    for_each_run(params, item, &mass, [&](const Run& run) {
        if (!seen_by_any(params, item, run)) {
            return;
        }
        expand_run_keys(f, run, view_page(f, run, scratch.k_tile), scratch.k_tile);
        for_each_tile_block(params, item, run, [&]<int rows>(std::integral_constant<int, rows>, const RowBlock& block) {
            alignas(64) float scores[rows * page_tokens];
            score_tile<rows>(scratch.k_tile, scratch.q + block.first * f.k_dim, f.k_dim, scores);
            for (int r = 0; r < rows; ++r) {
                const int64_t row = block.first + r;
                if (block.seen[r]) {
                    finish_logits(scores + r * page_tokens, block.seen[r], params.soft_cap, run.bias);
                    add_mass(scores + r * page_tokens, block.seen[r],
                             mass.lse[row / params.group * mass.lse_token_stride + row % params.group], run.mass);
                }
            }
        });
    });
}

}  // namespace
}  // namespace kvc::simd

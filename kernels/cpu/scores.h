// Products of query rows with the keys of one page.
//
// Reads each key once for up to four query rows. Codes cost integer dot products with int16 weights: a query row with the
// channels' scales folded in, rounded per tile of tokens (channel axis), or the query row itself, rounded once per channel group
// and scaled afterwards (token axis). No sum runs over lanes: lanes are tokens.
#pragma once
#include "kernels/cpu/code_dot.h"
#include "kernels/cpu/float_dot.h"
#include "kernels/cpu/part_view.h"
#include "kernels/cpu/weights.h"

namespace kvc::simd {
namespace {

// The prepared query rows of an item: scale applied, rotated where keys are. Strides in elements.
struct QueryRows {
    int64_t dim, groups;
    const float* q;  // [rows][dim]
    // Token axis only; per channel group.
    const int16_t* weights;   // [rows][dim]
    const Weights* rounding;  // [rows][groups]
    const float* sums;        // [rows][groups], of q

    KVC_INLINE QueryRows from(int64_t row) const {
        return {dim, groups, q + row * dim, weights + row * dim, rounding + row * groups, sums + row * groups};
    }
};

// Multiplies q [dim] by the scales of a tile and rounds it; the zero points become the affine's bias.
KVC_INLINE Affine fold_query(const float* q, const float* scale, const float* zero, int64_t dim, int32_t origin, int16_t* weights) {
    float folded[dim_limit];
    Floats largest = broadcast(0.0f), bias = broadcast(0.0f);
    for (int64_t c = 0; c < dim; c += 16) {
        const Floats x = load(q + c), y = mul(x, load(scale + c));
        store(folded + c, y);
        largest = max(largest, abs(y));
        bias = fma(x, load(zero + c), bias);
    }
    const Weights rounded = quantize_weights(folded, largest, dim, weights);
    return {rounded.unit, origin * rounded.sum, sum_of_lanes(bias)};
}

// scores [rows][64].
template <int bits, int rows>
void score_channel_axis(const PartView& k, const QueryRows& queries, float* scores) {
    const CodePlanes planes = code_planes(k);
    const int32_t origin = grid_of(*k.codec).whole;
    const int tile_blocks = k.codec->group / 16;
    float scale[dim_limit], zero[dim_limit];
    int16_t weights[rows * dim_limit];
    Affine affine[rows] = {};
    for_each_token_block([&]<int tb>(std::integral_constant<int, tb>) __attribute__((always_inline)) {
        if (tb == 0 || tb % tile_blocks == 0) {
            load_channel_scales(k, tb / tile_blocks, origin, scale, zero);
            for (int r = 0; r < rows; ++r) {
                affine[r] = fold_query(queries.q + r * k.dim, scale, zero, k.dim, origin, weights + r * k.dim);
            }
        }
        const DotSums<rows> sums = dot_keys<bits, tb, rows>(planes, 0, k.dim, weights, k.dim);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            store(scores + r * page_tokens + tb * 16, apply(affine[r], sums.of(r)));
        }
    });
}

template <int bits, int rows>
void score_token_axis(const PartView& k, const QueryRows& queries, float* scores) {
    const CodePlanes planes = code_planes(k);
    const CodeGrid grid = grid_of(*k.codec);
    const int64_t channels = channels_per_scale(k);
    for_each_token_block([&]<int tb>(std::integral_constant<int, tb>) __attribute__((always_inline)) {
        for (int64_t g = 0; g < queries.groups; ++g) {
            const TokenScales scales = load_token_scales(k, g, tb * 16, grid.whole);
            const DotSums<rows> sums = dot_keys<bits, tb, rows>(planes, g * channels, (g + 1) * channels, queries.weights, k.dim);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                const Weights rounded = queries.rounding[r * queries.groups + g];
                const Affine affine{rounded.unit, grid.whole * rounded.sum, -grid.fraction * float(rounded.sum) * rounded.unit};
                float* out = scores + r * page_tokens + tb * 16;
                const Floats before = g == 0 ? broadcast(0.0f) : load(out);
                const Floats coded = fma(apply(affine, sums.of(r)), scales.scale, before);
                store(out, fma(broadcast(queries.sums[r * queries.groups + g]), scales.zero, coded));
            }
        }
    });
}

template <Element element, int rows>
void score_floats(const PartView& k, const QueryRows& queries, float* scores) {
    constexpr int blocks = blocks_at_once<rows>;
    constexpr int64_t step_bytes = 16 * element_bytes<element>;
    const int64_t block_bytes = k.dim * step_bytes, all = ceil_div(k.capacity, 16);
    const auto run = [&]<int n>(std::integral_constant<int, n>, int64_t block) __attribute__((always_inline)) {
        Floats sums[rows * n];
#pragma GCC unroll 16
        for (int i = 0; i < rows * n; ++i) {
            sums[i] = broadcast(0.0f);
        }
        dot_floats<element, rows, n>({k.plane + block * block_bytes, block_bytes, step_bytes, k.ahead}, 0, k.dim, queries.q, k.dim,
                                     sums);
#pragma GCC unroll 16
        for (int i = 0; i < rows * n; ++i) {
            store(scores + (i / n) * page_tokens + (block + i % n) * 16, sums[i]);
        }
    };
    int64_t block = 0;
    for (; block + blocks <= all; block += blocks) {
        run(std::integral_constant<int, blocks>(), block);
    }
    for (; block < all; ++block) {
        run(std::integral_constant<int, 1>(), block);
    }
}

template <int bits, int rows>
void score_codes(const PartView& k, const QueryRows& queries, float* scores) {
    if (k.codec->axis == Axis::channel) {
        score_channel_axis<bits, rows>(k, queries, scores);
    } else {
        score_token_axis<bits, rows>(k, queries, scores);
    }
}

// scores [rows][64]; slots that hold no token get anything.
template <int rows>
void score_page(const PartView& k, const QueryRows& queries, float* scores) {
    if (!k.coded) {
        switch (k.element) {
        case Element::f32:
            return score_floats<Element::f32, rows>(k, queries, scores);
        case Element::f16:
            return score_floats<Element::f16, rows>(k, queries, scores);
        case Element::bf16:
            return score_floats<Element::bf16, rows>(k, queries, scores);
        }
    }
    with_bits(k.codec->type, [&]<int bits>(std::integral_constant<int, bits>) { score_codes<bits, rows>(k, queries, scores); });
}

}  // namespace
}  // namespace kvc::simd

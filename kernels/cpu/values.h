// Probabilities times the values of one page, added to output rows.
//
// Codes: scales of the token axis are folded into the probabilities, which are rounded to int16 per page and row; scales of the
// channel axis are applied to the sums of a tile. Reads each value once for up to four rows. Lanes are channels.
#pragma once
#include "kernels/cpu/code_dot.h"
#include "kernels/cpu/float_dot.h"
#include "kernels/cpu/part_view.h"
#include "kernels/cpu/weights.h"

namespace kvc::simd {
namespace {

// Rounds 64 probabilities times their tokens' scales; zero points become the affine's bias.
KVC_INLINE Affine fold_probabilities(const PartView& v, int64_t group, const float* p, CodeGrid grid, int16_t* weights) {
    float folded[page_tokens];
    Floats largest = broadcast(0.0f), bias = broadcast(0.0f);
    for (int64_t t = 0; t < page_tokens; t += 16) {
        const TokenScales scales = load_token_scales(v, group, t, grid.whole);
        const Floats x = load(p + t), y = mul(x, scales.scale);
        store(folded + t, y);
        largest = max(largest, y);
        bias = fma(x, scales.zero, bias);
    }
    const Weights rounded = quantize_weights(folded, largest, page_tokens, weights);
    return {rounded.unit, grid.whole * rounded.sum, sum_of_lanes(bias) - grid.fraction * float(rounded.sum) * rounded.unit};
}

// o[r] [v_dim] += p v; p [rows][64].
template <int bits, int rows>
void add_token_axis(const PartView& v, const float* p, float* const* o) {
    const CodePlanes planes = code_planes(v);
    const CodeGrid grid = grid_of(*v.codec);
    const int64_t channels = channels_per_scale(v);
    int16_t weights[rows * page_tokens];
    Affine affine[rows] = {};
    for (int64_t block = 0; block < v.dim / 16; ++block) {
        if (block == 0 || block * 16 % channels == 0) {
            for (int r = 0; r < rows; ++r) {
                affine[r] = fold_probabilities(v, block * 16 / channels, p + r * page_tokens, grid, weights + r * page_tokens);
            }
        }
        const DotSums<rows> sums = dot_values<bits, rows>(planes, block, 0, page_tokens, weights, page_tokens);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            float* out = o[r] + block * 16;
            store(out, add(load(out), apply(affine[r], sums.of(r))));
        }
    }
}

template <int bits, int rows>
void add_channel_axis(const PartView& v, const float* p, float* const* o) {
    const CodePlanes planes = code_planes(v);
    const CodeGrid grid = grid_of(*v.codec);
    const int64_t tile_tokens = v.codec->group;
    float scale[dim_limit], zero[dim_limit];
    int16_t weights[rows * page_tokens];
    for (int64_t tile = 0; tile < page_tokens / tile_tokens; ++tile) {
        load_channel_scales(v, tile, grid.whole, scale, zero);
        Affine affine[rows] = {};
        float sum[rows];
        for (int r = 0; r < rows; ++r) {
            const float* from = p + r * page_tokens + tile * tile_tokens;
            Floats largest = broadcast(0.0f), all = broadcast(0.0f);
            for (int64_t t = 0; t < tile_tokens; t += 16) {
                largest = max(largest, load(from + t));
                all = add(all, load(from + t));
            }
            const Weights rounded = quantize_weights(from, largest, tile_tokens, weights + r * page_tokens + tile * tile_tokens);
            affine[r] = {rounded.unit, grid.whole * rounded.sum, 0.0f};
            sum[r] = sum_of_lanes(all);
        }
        for (int64_t block = 0; block < v.dim / 16; ++block) {
            const DotSums<rows> sums =
                dot_values<bits, rows>(planes, block, tile * tile_tokens, (tile + 1) * tile_tokens, weights, page_tokens);
            const Floats scales = load(scale + block * 16), zeros = load(zero + block * 16);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                float* out = o[r] + block * 16;
                const Floats coded = fma(apply(affine[r], sums.of(r)), scales, load(out));
                store(out, fma(broadcast(sum[r]), zeros, coded));
            }
        }
    }
}

// Tokens [first, last) only: what lies in the others may be no number.
template <Element element, int rows>
void add_floats(const PartView& v, const float* p, int64_t first, int64_t last, float* const* o) {
    constexpr int blocks = blocks_at_once<rows>;
    constexpr int64_t block_bytes = 16 * element_bytes<element>;
    const auto run = [&]<int n>(std::integral_constant<int, n>, int64_t block) __attribute__((always_inline)) {
        Floats sums[rows * n];
#pragma GCC unroll 16
        for (int i = 0; i < rows * n; ++i) {
            sums[i] = load(o[i / n] + (block + i % n) * 16);
        }
        dot_floats<element, rows, n>({v.plane + block * block_bytes, block_bytes, v.dim * element_bytes<element>, v.ahead}, first, last,
                                     p, page_tokens, sums);
#pragma GCC unroll 16
        for (int i = 0; i < rows * n; ++i) {
            store(o[i / n] + (block + i % n) * 16, sums[i]);
        }
    };
    int64_t block = 0;
    for (; block + blocks <= v.dim / 16; block += blocks) {
        run(std::integral_constant<int, blocks>(), block);
    }
    for (; block < v.dim / 16; ++block) {
        run(std::integral_constant<int, 1>(), block);
    }
}

template <int bits, int rows>
void add_codes(const PartView& v, const float* p, float* const* o) {
    if (v.codec->axis == Axis::channel) {
        add_channel_axis<bits, rows>(v, p, o);
    } else {
        add_token_axis<bits, rows>(v, p, o);
    }
}

// p [rows][64] is 0 outside tokens [first, last).
template <int rows>
void add_values(const PartView& v, const float* p, int64_t first, int64_t last, float* const* o) {
    if (!v.coded) {
        switch (v.element) {
        case Element::f32:
            return add_floats<Element::f32, rows>(v, p, first, last, o);
        case Element::f16:
            return add_floats<Element::f16, rows>(v, p, first, last, o);
        case Element::bf16:
            return add_floats<Element::bf16, rows>(v, p, first, last, o);
        }
    }
    with_bits(v.codec->type, [&]<int bits>(std::integral_constant<int, bits>) { add_codes<bits, rows>(v, p, o); });
}

}  // namespace
}  // namespace kvc::simd

// Integer dot products of packed codes with int16 weights: exact in int32.
//
// A block of codes is 64 bytes: 16 lanes (tokens of keys, channels of values) of four bytes, byte j holding the number j of four that
// are summed over (layout.h). A block is loaded once for all rows of the query's group. On AVX2, 16 lanes of two numbers cost
// 2 vpmaddwd and 2 vpaddd a row; shifts and masks are shared by the rows.
#pragma once
#include <utility>

#include "kernels/cpu/layout.h"

namespace kvc::simd {
namespace {

// The widths that the bodies below know; a cache of another is refused (KernelTable::unsupported).
constexpr bool has_kernels_for(CodeType type) {
    switch (type) {
    case CodeType::f16:
    case CodeType::bf16:
    case CodeType::int8:
    case CodeType::int4:
    case CodeType::int3:
    case CodeType::int2:
        return true;
    default:
        return false;
    }
}

// Calls run(std::integral_constant<int, bits>()) with the width of the codes.
template <class Run>
KVC_INLINE void with_bits(CodeType type, const Run& run) {
    switch (type) {
    case CodeType::int8:
        return run(std::integral_constant<int, 8>());
    case CodeType::int4:
        return run(std::integral_constant<int, 4>());
    case CodeType::int3:
        return run(std::integral_constant<int, 3>());
    case CodeType::int2:
        return run(std::integral_constant<int, 2>());
    default:
        __builtin_unreachable();
    }
}

// Calls visit(std::integral_constant<int, tb>) for the four blocks of 16 tokens of a page.
template <class Visit>
KVC_INLINE void for_each_token_block(const Visit& visit) {
    static_assert(page_tokens == 64);
    visit(std::integral_constant<int, 0>());
    visit(std::integral_constant<int, 1>());
    visit(std::integral_constant<int, 2>());
    visit(std::integral_constant<int, 3>());
}

// Two codes of every lane as words: bits from `shift` on of bytes `second` and `second` + 2.
template <int bits, int shift, int second>
KVC_INLINE Words code_words(Words codes) {
    return word_bits<shift + 8 * second, (1 << bits) - 1>(codes);
}
// The same for 3 bits, from the two planes; the high bit lies at high_shift.
template <int shift, int high_shift, int second>
KVC_INLINE Words code_words(Words low, Words high) {
    return either(code_words<2, shift, second>(low), word_bits<high_shift + 8 * second - 2, 4>(high));
}

// The running sums of a block: each row's are spread over dot_chains of them, pair after pair.
template <int rows>
struct DotSums {
    Dots sum[rows * dot_chains];

    KVC_INLINE DotSums() {
#pragma GCC unroll 16
        for (int i = 0; i < rows * dot_chains; ++i) {
            sum[i] = zero_dots();
        }
    }
    template <int pair>
    KVC_INLINE void add(Words words, const int16_t* weights, int64_t row_stride) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            Dots& s = sum[r * dot_chains + pair % dot_chains];
            s = dot(s, words, weights + r * row_stride + 2 * pair);
        }
    }
    KVC_INLINE Ints of(int row) const {
        Dots all = sum[row * dot_chains];
#pragma GCC unroll 4
        for (int chain = 1; chain < dot_chains; ++chain) {
            all = merge(all, sum[row * dot_chains + chain]);
        }
        return total(all);
    }
};

// Where the codes of one part lie, and how far ahead of them the next page's do (0: nothing to prefetch).
struct CodePlanes {
    const std::byte* codes;
    const std::byte* high;  // 1-bit plane of int3
    int64_t dim;
    int64_t ahead;
};

// Keys: sums over channels [first, last), multiples of 8, of token block tb.
template <int bits, int tb, int rows>
KVC_INLINE DotSums<rows> dot_keys(const CodePlanes& k, int64_t first, int64_t last, const int16_t* weights, int64_t row_stride) {
    constexpr int plane = bits == 3 ? 2 : bits;
    constexpr int shift = k_unit(plane, 16, tb, 0).shift;
    constexpr int64_t quad_bytes = unit_bytes * (k_unit(plane, 16, 0, 1).block - k_unit(plane, 16, 0, 0).block);
    const std::byte* codes = k.codes + k_unit(plane, int(k.dim), tb, 0).block * unit_bytes;
    DotSums<rows> sums;
    for (int64_t quad = first / 4; quad < last / 4; quad += 2) {
        const int16_t* w = weights + quad * 4;
        const std::byte* block = codes + quad * quad_bytes;
        if constexpr (shift == 0) {
            prefetch(block + k.ahead);
            prefetch(block + quad_bytes + k.ahead);
        }
        const Words x = load_words(block), y = load_words(block + quad_bytes);
        if constexpr (bits == 3) {
            const Words high = load_words(k.high + quad / 2 * unit_bytes);
            sums.template add<0>(code_words<shift, tb, 0>(x, high), w, row_stride);
            sums.template add<1>(code_words<shift, tb, 1>(x, high), w, row_stride);
            sums.template add<2>(code_words<shift, tb + 4, 0>(y, high), w, row_stride);
            sums.template add<3>(code_words<shift, tb + 4, 1>(y, high), w, row_stride);
        } else {
            sums.template add<0>(code_words<bits, shift, 0>(x), w, row_stride);
            sums.template add<1>(code_words<bits, shift, 1>(x), w, row_stride);
            sums.template add<2>(code_words<bits, shift, 0>(y), w, row_stride);
            sums.template add<3>(code_words<bits, shift, 1>(y), w, row_stride);
        }
    }
    return sums;
}

// Values: sums over tokens [first, last), multiples of 16, of the 16 channels of block dt.
template <int bits, int rows>
KVC_INLINE DotSums<rows> dot_values(const CodePlanes& v, int64_t dt, int64_t first, int64_t last, const int16_t* weights,
                                    int64_t row_stride) {
    constexpr int plane = bits == 3 ? 2 : bits;
    constexpr int units = 8 / plane;  // of four tokens, in one block
    const std::byte* codes = v.codes + v_unit(plane, int(dt), 0).block * unit_bytes;
    DotSums<rows> sums;
    for (int64_t step = first / (4 * units); step < last / (4 * units); ++step) {
        const int16_t* w = weights + step * 4 * units;
        const std::byte* block = codes + step * unit_bytes;
        prefetch(block + v.ahead);
        const Words x = load_words(block);
        Words high = x;
        if constexpr (bits == 3) {
            const std::byte* high_block = v.high + v_unit(1, int(dt), int(step) * units).block * unit_bytes;
            high = word_shift(load_words(high_block), v_unit(1, 0, int(step) * units).shift);
        }
        [&]<int... u>(std::integer_sequence<int, u...>) __attribute__((always_inline)) {
            (
                [&]() __attribute__((always_inline)) {
                    if constexpr (bits == 3) {
                        sums.template add<2 * u>(code_words<u * plane, u, 0>(x, high), w, row_stride);
                        sums.template add<2 * u + 1>(code_words<u * plane, u, 1>(x, high), w, row_stride);
                    } else {
                        sums.template add<2 * u>(code_words<bits, u * plane, 0>(x), w, row_stride);
                        sums.template add<2 * u + 1>(code_words<bits, u * plane, 1>(x), w, row_stride);
                    }
                }(),
                ...);
        }(std::make_integer_sequence<int, units>());
    }
    return sums;
}

}  // namespace
}  // namespace kvc::simd

// The rotation of docs/FORMATS.md, in the same order of operations as rotate_row and so with the same bits.
#pragma once
#include <array>

#include "core/codec/canonical_body.h"

namespace kvc::simd {
namespace {

// 1 in lanes that lack the bit `distance`, -1 in the others.
template <int distance>
constexpr auto difference_signs = [] {
    std::array<float, 16> signs{};
    for (int i = 0; i < 16; ++i) {
        signs[size_t(i)] = i & distance ? -1.0f : 1.0f;
    }
    return signs;
}();

// Sums and differences of lanes that are `distance` apart; a product with 1 or -1 is exact, so the FMA rounds as an addition does.
template <int distance, int n>
KVC_INLINE void cross_lanes(Floats* x) {
    const Floats signs = load(difference_signs<distance>.data());
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        x[i] = fma(x[i], signs, swap_lanes<distance>(x[i]));
    }
}

template <int block>
void rotate_lanes(float* row) {
    constexpr int n = block / 16;
    Floats x[n];
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        x[i] = load(row + i * 16);
    }
    cross_lanes<1, n>(x);
    cross_lanes<2, n>(x);
    cross_lanes<4, n>(x);
    cross_lanes<8, n>(x);
#pragma GCC unroll 4
    for (int distance = 1; distance < n; distance *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) {
            if (!(i & distance)) {
                const Floats a = x[i], b = x[i + distance];
                x[i] = add(a, b);
                x[i + distance] = sub(a, b);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
        store(row + i * 16, mul(x[i], broadcast(rotation_norm<block>)));
    }
}

inline void rotate_vector(float* row, int dim) {
    const int block = dim & -dim;
    for (int start = 0; start < dim; start += block) {
        switch (block) {
        case 16:
            rotate_lanes<16>(row + start);
            break;
        case 32:
            rotate_lanes<32>(row + start);
            break;
        case 64:
            rotate_lanes<64>(row + start);
            break;
        case 128:
            rotate_lanes<128>(row + start);
            break;
        default:
            rotate_lanes<256>(row + start);
            break;
        }
    }
}

}  // namespace
}  // namespace kvc::simd

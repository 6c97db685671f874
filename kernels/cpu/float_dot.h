// Sums of 16-lane vectors times weights in f32.
//
// Serves 16-bit records (widened on the way) and the f32 tiles of the prompt class. Every lane of a row is one chain of FMAs in
// the order of the steps, so its bits do not depend on how many rows or blocks are computed beside it.
#pragma once

namespace kvc::simd {
namespace {

enum class Element { f32, f16, bf16 };

template <Element element>
KVC_INLINE Floats load_elements(const std::byte* p) {
    if constexpr (element == Element::f32) {
        return load(reinterpret_cast<const float*>(p));
    } else if constexpr (element == Element::f16) {
        return load_f16(p);
    } else {
        return load_bf16(p);
    }
}

template <Element element>
constexpr int64_t element_bytes = element == Element::f32 ? 4 : 2;

// Vectors of 16 numbers: step s of block b is at data + b * block_bytes + s * step_bytes.
struct FloatPlane {
    const std::byte* data;
    int64_t block_bytes, step_bytes;
    int64_t ahead;  // bytes from here to what comes next, to prefetch it
};

// Blocks to compute together, so that enough chains of FMAs run side by side.
template <int rows>
constexpr int blocks_at_once = rows >= float_accumulators      ? 1
                               : float_accumulators / rows > 4 ? 4
                                                               : float_accumulators / rows;

// Adds steps [first, last) to sums [rows][blocks]; the weight of step s for row r is weights[r * row_stride + s].
template <Element element, int rows, int blocks>
KVC_INLINE void dot_floats(const FloatPlane& plane, int64_t first, int64_t last, const float* weights, int64_t row_stride,
                           Floats* sums) {
    Floats local[rows * blocks];
#pragma GCC unroll 16
    for (int i = 0; i < rows * blocks; ++i) {
        local[i] = sums[i];
    }
    for (int64_t step = first; step < last; ++step) {
        const std::byte* data = plane.data + step * plane.step_bytes;
        prefetch(data + plane.ahead);
        Floats x[blocks];
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) {
            x[b] = load_elements<element>(data + b * plane.block_bytes);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const Floats weight = broadcast(weights[r * row_stride + step]);
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) {
                local[r * blocks + b] = fma(weight, x[b], local[r * blocks + b]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * blocks; ++i) {
        sums[i] = local[i];
    }
}

}  // namespace
}  // namespace kvc::simd

// Tokens into a 16-bit record: the same rows and refusals as store_body.h, sixteen lanes at a time.
#pragma once
#include "kernels/cpu/rotation.h"
#include "kernels/cpu/store_body.h"

namespace kvc::simd {
namespace {

KVC_INLINE Floats load_numbers(const void* row, Dtype dtype, int64_t i) {
    const auto* bytes = static_cast<const std::byte*>(row);
    switch (dtype) {
    case Dtype::f16:
        return load_f16(bytes + 2 * i);
    case Dtype::bf16:
        return load_bf16(bytes + 2 * i);
    default:
        return load(static_cast<const float*>(row) + i);
    }
}

constexpr int32_t infinity_bits = std::bit_cast<int32_t>(std::numeric_limits<float>::infinity());

// Loads a row to f32; returns the bits of its largest magnitude, which are above those of any finite number if one is not finite.
inline int32_t load_row_lanes(const void* row, Dtype dtype, int64_t dim, float* x) {
    Ints largest = zero_ints();
    for (int64_t i = 0; i < dim; i += 16) {
        const Floats numbers = load_numbers(row, dtype, i);
        store(x + i, numbers);
        largest = max(largest, magnitude_bits(numbers));
    }
    return max_of_lanes(largest);
}

inline int32_t largest_bits(const float* x, int64_t dim) {
    Ints largest = zero_ints();
    for (int64_t i = 0; i < dim; i += 16) {
        largest = max(largest, magnitude_bits(load(x + i)));
    }
    return max_of_lanes(largest);
}

// Loads a row, rotates it and rounds it to 16 bits; false if it holds a number that the type cannot.
inline bool load_rounded(const StoreParams& p, const void* row, int dim, bool rotated, uint16_t* out) {
    const bool bf16 = p.format->bf16_window;
    float x[dim_limit];
    const int32_t largest = load_row_lanes(row, p.dtype, dim, x);
    if (largest >= infinity_bits) {
        return false;
    }
    if (rotated) {
        rotate_vector(x, dim);
    }
    // Rows at the limit of the type are rare: they go the long way, which knows what to clamp and what to refuse.
    if (bf16 || (rotated ? largest_bits(x, dim) : largest) > std::bit_cast<int32_t>(f16_max)) {
        return round_row(x, dim, false, bf16, p.saturate, out);
    }
    for (int i = 0; i < dim; i += 16) {
        store_f16(out + i, load(x + i));
    }
    return true;
}

inline int64_t store_rows(const StoreParams& p) {
    const LayerFormat& f = *p.format;
    auto* k16 = reinterpret_cast<uint16_t*>(p.record);
    auto* v16 = reinterpret_cast<uint16_t*>(p.record + (p.sinks ? sink_v_offset(f) : window_v_offset(f)));
    for (int64_t token = 0; token < p.tokens; ++token) {
        const int slot = int(p.first_slot + token);
        uint16_t column[dim_limit];
        uint16_t* k = p.sinks ? k16 + v16_index(f.k_dim, slot, 0) : column;
        if (!load_rounded(p, row_at(p.k, p.dtype, token * p.k_stride), f.k_dim, f.codec.k.rotate, k) ||
            !load_rounded(p, row_at(p.v, p.dtype, token * p.v_stride), f.v_dim, f.codec.v.rotate, v16 + v16_index(f.v_dim, slot, 0))) {
            return token;
        }
        if (!p.sinks) {
            uint16_t* to = k16 + k16_index(f.k_dim, slot, 0);
            for (int d = 0; d < f.k_dim; ++d) {
                to[16 * d] = column[d];
            }
        }
    }
    return -1;
}

}  // namespace
}  // namespace kvc::simd

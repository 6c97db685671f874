// Tokens into a 16-bit record: to f32, rotated where the codec says so, checked, rounded. Compiled once per CPU target.
#pragma once
#include <cstring>
#include <limits>

#include "core/backend/kernel_table.h"
#include "core/codec/canonical_body.h"
#include "kernels/cpu/layout.h"

namespace kvc {
namespace {

inline void load_row(const void* row, Dtype dtype, int dim, float* __restrict x) {
    const auto* half = static_cast<const uint16_t*>(row);
    switch (dtype) {
    case Dtype::f32:
        std::memcpy(x, row, size_t(dim) * sizeof(float));
        break;
    case Dtype::f16:
        for (int i = 0; i < dim; ++i) {
            x[i] = f32_from_f16(half[i]);
        }
        break;
    case Dtype::bf16:
        for (int i = 0; i < dim; ++i) {
            x[i] = f32_from_bf16(half[i]);
        }
        break;
    }
}

// Row `at` (in elements) of a caller's tensor.
inline const void* row_at(const void* base, Dtype dtype, int64_t at) {
    return static_cast<const std::byte*>(base) + at * (dtype == Dtype::f32 ? 4 : 2);
}

inline float largest_of(const float* x, int dim) {
    float largest = 0.0f;
    bool number = true;
    for (int i = 0; i < dim; ++i) {
        const float size = std::fabs(x[i]);
        number = number && size == size;
        largest = size > largest ? size : largest;
    }
    return number ? largest : std::numeric_limits<float>::quiet_NaN();
}

// Rounds a row in place of its 16 bits; false if it holds a number that the type cannot. The range is checked after rotation,
// which spreads a large number over its block and may make several from many.
inline bool round_row(float* x, int dim, bool rotated, bool bf16, bool saturate, uint16_t* __restrict out) {
    if (!(largest_of(x, dim) <= std::numeric_limits<float>::max())) {
        return false;
    }
    if (rotated) {
        rotate_row(x, dim);
    }
    const float limit = bf16 ? bf16_max : f16_max;
    const float largest = largest_of(x, dim);
    if (!(largest <= limit)) {
        if (saturate && largest == largest) {
            for (int i = 0; i < dim; ++i) {
                x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
            }
        } else if (!(largest < (bf16 ? 0x1.ffp127f : 65520.0f))) {  // what rounds to infinity, and NaN
            return false;
        }
    }
    for (int i = 0; i < dim; ++i) {
        out[i] = bf16 ? bf16_from_f32(x[i]) : f16_from_f32(x[i]);
    }
    return true;
}

inline int64_t store_tokens(const StoreParams& p) {
    const LayerFormat& f = *p.format;
    auto* k16 = reinterpret_cast<uint16_t*>(p.record);
    auto* v16 = reinterpret_cast<uint16_t*>(p.record + (p.sinks ? sink_v_offset(f) : window_v_offset(f)));
    float x[dim_limit];
    uint16_t rounded[dim_limit];
    for (int64_t token = 0; token < p.tokens; ++token) {
        const int slot = int(p.first_slot + token);
        load_row(row_at(p.k, p.dtype, token * p.k_stride), p.dtype, f.k_dim, x);
        if (!round_row(x, f.k_dim, f.codec.k.rotate, f.bf16_window, p.saturate, rounded)) {
            return token;
        }
        for (int d = 0; d < f.k_dim; ++d) {
            k16[p.sinks ? v16_index(f.k_dim, slot, d) : k16_index(f.k_dim, slot, d)] = rounded[d];
        }
        load_row(row_at(p.v, p.dtype, token * p.v_stride), p.dtype, f.v_dim, x);
        if (!round_row(x, f.v_dim, f.codec.v.rotate, f.bf16_window, p.saturate, v16 + v16_index(f.v_dim, slot, 0))) {
            return token;
        }
    }
    return -1;
}

}  // namespace
}  // namespace kvc

// The end of a row: splits merged in their order, the sink logit, the rotation undone, written. Compiled once per CPU target.
#pragma once
#include <limits>

#include "kernels/cpu/store_body.h"

namespace kvc {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

inline void write_row(const float* x, int dim, Dtype dtype, void* out) {
    auto* half = static_cast<uint16_t*>(out);
    switch (dtype) {
    case Dtype::f32:
        std::memcpy(out, x, size_t(dim) * sizeof(float));
        break;
    case Dtype::f16:
        for (int i = 0; i < dim; ++i) {
            half[i] = f16_from_f32(x[i]);
        }
        break;
    case Dtype::bf16:
        for (int i = 0; i < dim; ++i) {
            half[i] = bf16_from_f32(x[i]);
        }
        break;
    }
}

// The largest logit of all splits and the sink; NaN if one is.
inline float largest_logit(const FinishParams& params) {
    float largest = params.sink_logit ? *params.sink_logit : minus_infinity;
    for (int64_t s = 0; s < params.splits; ++s) {
        const float m = params.states[s * params.split_stride + params.format->v_dim];
        largest = m > largest || m != m ? m : largest;
        if (m != m) {
            return m;
        }
    }
    return largest;
}

// rotate is the target's own way to undo the rotation of a row.
template <void (*rotate)(float* row, int dim)>
void finish_row(const FinishParams& params) {
    const int dim = params.format->v_dim;
    float o[dim_limit] = {};
    float d = 0.0f, lse = minus_infinity;
    const float m = largest_logit(params);
    if (m != minus_infinity) {
        for (int64_t s = 0; s < params.splits; ++s) {
            const float* state = params.states + s * params.split_stride;
            const float weight = std::exp(state[dim] - m);  // 0 for a split that saw nothing
            for (int i = 0; i < dim; ++i) {
                o[i] += weight * state[i];
            }
            d += weight * state[dim + 1];
        }
        d += params.sink_logit ? std::exp(*params.sink_logit - m) : 0.0f;
        lse = m + std::log(d);
        for (int i = 0; i < dim; ++i) {
            o[i] /= d;
        }
    }
    if (params.format->codec.v.rotate) {
        rotate(o, dim);
    }
    write_row(o, dim, params.out_dtype, params.out);
    if (params.out_lse) {
        *params.out_lse = lse;
    }
    if (params.out_full_lse) {
        *params.out_full_lse = lse;
    }
}

}  // namespace
}  // namespace kvc

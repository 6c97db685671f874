// From a backend's parameters to what a launch of attention reads.
#pragma once
#include "kernels/cuda/query_tile.cuh"

namespace kvc::cuda {

inline SoftCap soft_cap_of(float cap) {
    const float log2 = cap * log2_e;
    return cap > 0.0f ? SoftCap{log2, 2.0f * log2_e / log2} : SoftCap{};
}

inline AttendArgs attend_args(const AttendParams& p, const AttendItem* items) {
    const LayerFormat& f = *p.format;
    return {p.arena.slabs,
            f.code_bytes,
            f.window_bytes,
            f.sink_bytes,
            p.q_dtype,
            p.q_token_stride,
            p.q_head_stride,
            p.group,
            p.scale,
            soft_cap_of(p.soft_cap),
            p.sliding_window,
            p.causal_offset,
            int(2 * middle_of(f.codec.v)),
            items};
}

}  // namespace kvc::cuda

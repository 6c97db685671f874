// What launchers of prompt kernels share: from a backend's parameters to what a launch reads.
#pragma once
#include "kernels/cuda/prompt_pages.cuh"

// The widths of keys in KVC_CUDA_HEAD_DIMS.
#define KVC_CUDA_KEY_DIMS(X) X(64) X(80) X(96) X(112) X(128) X(192) X(256)

namespace kvc::cuda {

inline PromptArgs prompt_args(const AttendParams& p, const AttendItem* items) {
    const LayerFormat& f = *p.format;
    const AttendArgs attend{p.arena.slabs,    f.code_bytes,    f.window_bytes, f.sink_bytes, p.q_dtype,
                            p.q_token_stride, p.q_head_stride, p.group,        p.scale,      p.soft_cap,
                            p.sliding_window, p.causal_offset, items};
    const CodedOffsets offsets{int(f.k.codes), int(f.k.meta), int(f.k.super), int(f.v.codes), int(f.v.meta)};
    return {attend, offsets, f.lossless, int(f.codec.sinks)};
}

}  // namespace kvc::cuda

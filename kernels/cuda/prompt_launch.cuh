// What launchers share: from a backend's parameters to what a launch reads.
#pragma once
#include "kernels/cuda/attend_args.cuh"
#include "kernels/cuda/prompt_pages.cuh"
#include "kernels/cuda/supported.h"

// The widths of keys in KVC_CUDA_HEAD_DIMS.
#if defined(KVC_CUDA_ONE_HEAD_DIM)
#define KVC_CUDA_KEY_DIMS(X) X(128)
#else
#define KVC_CUDA_KEY_DIMS(X) X(64) X(80) X(96) X(112) X(128) X(192) X(256)
#endif

namespace kvc::cuda {

inline PromptArgs prompt_args(const AttendParams& p, const AttendItem* items) {
    const LayerFormat& f = *p.format;
    const PageCoding coding = coding_of(*kind_of(f));
    const int v_zeros = int(f.v.meta) + f.v_dim / value_group * value_group_bytes;
    return {attend_args(p, items),
            {coding.k_bits, coding.v_bits, coding.meta, int(2 * middle_of(f.codec.v)), int(f.k.codes), int(f.k.meta), int(f.k.super),
             int(f.v.codes), int(f.v.meta), v_zeros},
            int(f.codec.sinks),
            f.bf16_window,
            p.rope ? *p.rope : Rope{}};
}

}  // namespace kvc::cuda

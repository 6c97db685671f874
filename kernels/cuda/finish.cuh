// The end of attention: merges the splits of a row, undoes the rotation, writes. One warp a row.
#pragma once
#include "core/backend/executor.h"
#include "kernels/cuda/query_tile.cuh"
#include "kernels/cuda/rotation.cuh"
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

struct FinishArgs {
    const FinishTile* tiles;  // one for each blockIdx.y
    int64_t q_heads;
    const float* sink_logits;
    int v_dim;
    bool rotate;
    Dtype out_dtype;
    void* out;
    int64_t out_token_stride, out_head_stride;
    float* out_lse;
    float* full_lse;
};

// One row of a tile.
struct SplitRow {
    const float* states;
    int64_t splits, split_stride;
    const float* sink_logit;  // or nullptr
};

KVC_DEVICE float natural_exp(float x) { return simt::exp2(x * log2_e); }

// The largest logit of all splits and the sink; NaN if one is.
KVC_DEVICE float largest_logit(const SplitRow& row, int v_dim) {
    float largest = row.sink_logit ? *row.sink_logit : -simt::infinity();
    for (int64_t s = 0; s < row.splits; s++) {
        largest = larger_or_nan(largest, row.states[s * row.split_stride + v_dim]);
    }
    return largest;
}

KVC_DEVICE uint16_t bfloat_of(float x) {
    const uint32_t bits = simt::bits_of_float(x);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return uint16_t(x != x ? (bits >> 16) | 0x40u : rounded);
}

KVC_DEVICE void write_number(void* out, Dtype dtype, int64_t i, float x) {
    if (dtype == Dtype::f32) {
        simt::require_aligned(static_cast<float*>(out));
        static_cast<float*>(out)[i] = x;
    } else {
        simt::require_aligned(static_cast<uint16_t*>(out));
        static_cast<uint16_t*>(out)[i] = dtype == Dtype::f16 ? simt::float_to_half(x) : bfloat_of(x);
    }
}

// Leaves the merged row in shared memory; returns its log-sum-exp.
KVC_DEVICE float merge_splits(const SplitRow& row, int v_dim, SharedRow* out) {
    const float m = largest_logit(row, v_dim);
    const bool empty = m == -simt::infinity();
    float d = row.sink_logit && !empty ? natural_exp(*row.sink_logit - m) : 0.0f;
    for (int64_t s = 0; s < row.splits && !empty; s++) {
        const float* const state = row.states + s * row.split_stride;
        d += natural_exp(state[v_dim] - m) * state[v_dim + 1];
    }
    for (int i = simt::lane(); i < v_dim; i += 32) {
        float o = 0.0f;
        for (int64_t s = 0; s < row.splits && !empty; s++) {
            const float* const state = row.states + s * row.split_stride;
            o += natural_exp(state[v_dim] - m) * state[i];
        }
        out->x[i] = empty ? 0.0f : o / d;
    }
    simt::sync_warp();
    return empty ? m : m + simt::log(d);
}

KVC_KERNEL(threads, 1) finish_rows(FinishArgs args) {
    struct Rows {
        SharedRow row[warps];
    };
    KVC_SHARED(Rows, shared);
    const FinishTile& tile = args.tiles[simt::block_y()];
    const int64_t i = int64_t{simt::block_x()} * warps + simt::warp();
    if (i >= tile.tokens * args.q_heads) {
        return;
    }
    const int64_t head = i % args.q_heads, at = tile.first_row * args.q_heads + i;
    const SplitRow row = {tile.states + i * (args.v_dim + 2), tile.splits, tile.split_stride,
                          args.sink_logits ? args.sink_logits + head : nullptr};
    SharedRow* const o = &shared.row[simt::warp()];
    const float lse = merge_splits(row, args.v_dim, o);
    if (args.rotate) {
        rotate_row(o, args.v_dim);
    }
    const int64_t out = (tile.first_row + i / args.q_heads) * args.out_token_stride + head * args.out_head_stride;
    for (int c = simt::lane(); c < args.v_dim; c += 32) {
        write_number(args.out, args.out_dtype, out + c, o->x[c]);
    }
    if (simt::lane() == 0 && args.out_lse) {
        simt::require_aligned(args.out_lse);
        args.out_lse[at] = lse;
    }
    if (simt::lane() == 0 && args.full_lse) {
        args.full_lse[at] = lse;
    }
}

}  // namespace kvc::cuda

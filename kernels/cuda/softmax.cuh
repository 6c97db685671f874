// The running softmax of eight query rows over runs of 16 * tiles tokens: pages (4 tiles), or a sixteenth of tokens at a time.
//
// x[t][i] of a lane is the score of token 16 t + lane / 4 + 8 (i / 2) for query row 2 quad + i % 2, as a logit over ln 2.
#pragma once
#include "kernels/cuda/query_tile.cuh"

namespace kvc::cuda {

constexpr float nothing_yet = -1e30f;  // a finite floor: the difference of two such is 0, not NaN

// Weights are 2^(x - reference), at most 2^headroom, so that small ones stay clear of fp16's subnormals. What they are multiplied by in
// fp16 is then at most 2 (headroom_large_scales: at most 65504). bf16 has room anyway.
constexpr float headroom = 14.0f;
constexpr float headroom_large_scales = 0.0f;
constexpr float headroom_bf16 = 0.0f;

// Outputs are kept in the unit in which codes leave the tensor cores.
constexpr float output_unit = code_unit;

KVC_DEVICE float larger_or_nan(float a, float b) { return b > a || b != b ? b : a; }

template <int VD>
struct WarpState {
    float most[2];       // the largest x so far
    float reference[2];  // what weights and sums are relative to
    float sum[2];        // of this lane's tokens
    float o[VD / 16][4];
};

template <int VD>
KVC_DEVICE void reset(WarpState<VD>* state) {
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        state->most[column] = -simt::infinity();
        state->reference[column] = nothing_yet;
        state->sum[column] = 0.0f;
    }
    KVC_UNROLL
    for (int c = 0; c < VD / 16; c++) {
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            state->o[c][i] = 0.0f;
        }
    }
}

template <int tiles>
KVC_DEVICE void cap_scores(const SoftCap& cap, float (&x)[tiles][4]) {
    KVC_UNROLL
    for (int t = 0; t < tiles; t++) {
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            // tanh(y) = 1 - 2 / (e^(2y) + 1), exact to a few units of 2^-24 for all y.
            x[t][i] = simt::fma(-2.0f * cap.log2, simt::reciprocal(simt::exp2(x[t][i] * cap.slope) + 1.0f), cap.log2);
        }
    }
}

// Where a sight without a window begins. Not INT64_MIN: of code that takes a position from it only where that cannot overflow, nvcc
// 13.0.88 makes code that takes it always (docs/design/cuda.md, 4).
constexpr int64_t before_all = INT64_MIN / 2;

// The positions that a query row sees.
struct Sight {
    int64_t low, high;
};
KVC_DEVICE Sight sight_of(const AttendArgs& args, const AttendItem& item, int row) {
    const int64_t last = item.tokens - 1, token = row / int(args.group);
    const int64_t at = item.first_position + (token < last ? token : last);
    return {args.sliding_window > at ? before_all : at - args.sliding_window + 1, at + args.causal_offset};
}

// A run's tokens: at first + t, or where a list says; of those, the live ones. The list is its page's, in which the run begins at
// `start`: a pointer that either moved on or stayed nullptr came out of nvcc 13.0.88 as code that read the register pair before it was
// zero (docs/design/cuda.md, 4).
struct RunTokens {
    int64_t first;
    const int64_t* positions;  // or nullptr
    uint64_t live;
    int start = 0;
};

template <int tiles>
KVC_DEVICE void mask_scores(const AttendArgs& args, const AttendItem& item, int first_row, const RunTokens& run, float (&x)[tiles][4]) {
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        const Sight sight = sight_of(args, item, first_row + 2 * (simt::lane() % 4) + column);
        KVC_UNROLL
        for (int t = 0; t < tiles; t++) {
            KVC_UNROLL
            for (int upper = 0; upper < 2; upper++) {
                const int token = 16 * t + simt::lane() / 4 + 8 * upper;
                const int64_t at = run.positions ? run.positions[run.start + token] : run.first + token;
                const bool seen = (run.live >> token & 1) && at >= sight.low && at <= sight.high;
                float& score = x[t][2 * upper + column];
                score = seen ? score : -simt::infinity();
            }
        }
    }
}

// What a run multiplies with its values, and by how much the outputs before it shrink.
template <int tiles, bool in_two = false>
struct RunWeights {
    uint32_t p[tiles][2];                    // B operand: tokens 16 t + 2 quad + {0, 1} and + {8, 9} of query row lane / 4
    uint32_t p_rest[in_two ? tiles : 1][2];  // with p in bf16, what that leaves over
    float shrink[2];
    float sum[2];  // of this lane's tokens
};

// The weights of two queries for the tokens of one row of lanes, into the B operand: rows of the scores are tokens, columns queries; the
// second product contracts over tokens.
template <bool in_two, int tiles>
KVC_DEVICE void pack_weights(float p0, float p1, int t, int half, RunWeights<tiles, in_two>* weights) {
    if constexpr (in_two) {
        const SplitPair pair = split_bfloats(p0, p1);
        weights->p[t][half] = simt::transpose_8x8(pair.whole);
        weights->p_rest[t][half] = simt::transpose_8x8(pair.rest);
    } else {
        weights->p[t][half] = simt::transpose_8x8(simt::pack_halves(p0, p1));
    }
}

template <bool in_two = false, int VD, int tiles>
KVC_DEVICE RunWeights<tiles, in_two> weigh_run(float room, const float (&x)[tiles][4], WarpState<VD>* state) {
    RunWeights<tiles, in_two> weights;
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        float most = x[0][column];
        KVC_UNROLL
        for (int i = 1; i < 2 * tiles; i++) {
            most = simt::maximum(most, x[i / 2][2 * (i % 2) + column]);
        }
        KVC_UNROLL
        for (int distance = 4; distance < 32; distance *= 2) {
            most = simt::maximum(most, simt::shuffle_xor(most, distance));
        }
        state->most[column] = simt::maximum(state->most[column], most);
        const float before = state->reference[column];
        state->reference[column] = simt::maximum(before, most - room);
        weights.shrink[column] = simt::exp2(before - state->reference[column]);
        weights.sum[column] = 0.0f;
    }
    KVC_UNROLL
    for (int t = 0; t < tiles; t++) {
        float p[4];
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            p[i] = simt::exp2(x[t][i] - state->reference[i % 2]);
            weights.sum[i % 2] += p[i];
        }
        pack_weights(p[0], p[1], t, 0, &weights);
        pack_weights(p[2], p[3], t, 1, &weights);
    }
    KVC_UNROLL
    for (int column = 0; column < 2; column++) {
        state->sum[column] = simt::fma(state->sum[column], weights.shrink[column], weights.sum[column]);
    }
    return weights;
}

// Sums of weights relative to the largest logit instead of the reference, as natural logits: a lone token has a sum of exactly 1.
KVC_DEVICE PageSum page_sum_of(float most, float reference, float sum) {
    return {most * ln_2, sum > 0.0f ? sum / simt::exp2(most - reference) : 0.0f};
}

}  // namespace kvc::cuda

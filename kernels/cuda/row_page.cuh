// Sixteen 16-bit rows at a time: the residual window, the sinks, and all pages of the fp16 preset. No ldmatrix and no transposed copy:
// a lane's 16 bytes of a key are two fragments as they lie, and the values of two tokens are interleaved by byte permutations.
// Reads (KD + VD) * 2 bytes a token, which bounds it.
#pragma once
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// Sixteen rows of fp16 or bf16. Of a partial run, rows whose bit is not set hold anything, or do not exist.
template <class Bytes, bool partial>
struct RowRun {
    Bytes keys, values;
    uint32_t present;

    KVC_DEVICE bool has(int token) const { return !partial || (present >> token & 1); }
};

// `words` words, in one load.
template <int words, class Bytes>
KVC_DEVICE void load_words(const Bytes& bytes, int offset, uint32_t (&out)[words]) {
    if constexpr (words == 4) {
        const simt::Words4 v = bytes.load_128(offset);
        out[0] = v.w[0], out[1] = v.w[1], out[2] = v.w[2], out[3] = v.w[3];
    } else if constexpr (words == 2) {
        const simt::Words2 v = bytes.load_64(offset);
        out[0] = v.w[0], out[1] = v.w[1];
    } else {
        out[0] = bytes.load_32(offset);
    }
}

// The same of a row that may not exist; zeros then. What was never written may be NaN, which even a weight of 0 does not silence.
template <int words, class Bytes>
KVC_DEVICE void load_words_if(bool exists, const Bytes& bytes, int offset, uint32_t (&out)[words]) {
    if (exists) {
        load_words(bytes, offset, out);
    } else {
        KVC_UNROLL
        for (int i = 0; i < words; i++) {
            out[i] = 0;
        }
    }
}

// x += a, in bf16, times the sum of b and its rest: two products, since one bf16 number has three bits less than one of fp16.
KVC_DEVICE void multiply_in_two(float (&x)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const uint32_t (&rest)[2]) {
    simt::mma_bf16(x, a[0], a[1], a[2], a[3], b[0], b[1]);
    simt::mma_bf16(x, a[0], a[1], a[2], a[3], rest[0], rest[1]);
}

// Adds the products of `fragments` (1 or 2) fragments from k on.
template <int KD, int fragments, PageKind kind, class Bytes, bool partial>
KVC_DEVICE void row_scores_of(const RowRun<Bytes, partial>& run, const Bytes& at_lane, const QueryTile<KD, kind>& query, int k,
                              float (&x)[4]) {
    const int row = simt::lane() / 4;
    // From fragment to fragment a lane's place moves by a constant.
    const int offset = (key_channel(KD, k, 0, 0) - key_channel(KD, 0, 0, 0)) * 2;
    uint32_t lower[2 * fragments], upper[2 * fragments];
    load_words_if(run.has(row), at_lane, offset, lower);
    load_words_if(run.has(row + 8), at_lane, offset + 8 * KD * 2, upper);
    KVC_UNROLL
    for (int i = 0; i < fragments; i++) {
        const uint32_t a[4] = {lower[2 * i], upper[2 * i], lower[2 * i + 1], upper[2 * i + 1]};
        if constexpr (QueryTile<KD, kind>::in_two) {
            multiply_in_two(x, a, query.q[k + i], query.rest->of[k + i][simt::lane()].w);
        } else {
            simt::mma(x, a[0], a[1], a[2], a[3], query.q[k + i][0], query.q[k + i][1]);
        }
    }
}

template <int KD, PageKind kind, class Bytes, bool partial>
KVC_DEVICE void row_scores(const RowRun<Bytes, partial>& run, const QueryTile<KD, kind>& query, float (&x)[4]) {
    const int row = simt::lane() / 4, quad = simt::lane() % 4;
    x[0] = x[1] = x[2] = x[3] = 0.0f;
    if constexpr (KD / 16 > 1) {
        const Bytes at_lane = run.keys.plus((row * KD + key_channel(KD, 0, quad, 0)) * 2);
        KVC_UNROLL
        for (int k = 0; k + 1 < KD / 16; k += 2) {
            row_scores_of<KD, 2, kind>(run, at_lane, query, k, x);
        }
    }
    if constexpr (KD / 16 % 2 == 1) {
        constexpr int last = KD / 16 - 1;
        // The offset of the last fragment is from fragment 0 on, whose quads lie further apart.
        const int place = key_channel(KD, last, quad, 0) - key_channel(KD, last, 0, 0);
        row_scores_of<KD, 1, kind>(run, run.keys.plus((row * KD + place) * 2), query, last, x);
    }
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        x[i] *= query.to_log2[i % 2] * score_unit<kind>;
    }
}

// A run of fragments whose channels a lane reads as `words` words a token (layout.cuh).
template <int VD, int words, int widest, bool in_two, class Bytes, bool partial>
KVC_DEVICE void add_row_values_of(const RowRun<Bytes, partial>& run, const RunWeights<1, in_two>& weights, int c,
                                  WarpState<VD>* state) {
    const int quad = simt::lane() % 4;
    const Bytes at_lane = run.values.plus((2 * quad * VD + value_channel(VD, c, simt::lane() / 4, 0, widest)) * 2);
    uint32_t v[4][words];  // tokens 2 quad + 0, 1, 8, 9
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int token = i % 2 + 8 * (i / 2);
        load_words_if(run.has(2 * quad + token), at_lane, token * VD * 2, v[i]);
    }
    KVC_UNROLL
    for (int j = 0; j < words; j++) {
        float acc[4] = {};
        const uint32_t a[4] = {simt::permute_bytes(v[0][j], v[1][j], 0x5410), simt::permute_bytes(v[0][j], v[1][j], 0x7632),
                               simt::permute_bytes(v[2][j], v[3][j], 0x5410), simt::permute_bytes(v[2][j], v[3][j], 0x7632)};
        if constexpr (in_two) {
            multiply_in_two(acc, a, weights.p[0], weights.p_rest[0]);
        } else {
            simt::mma(acc, a[0], a[1], a[2], a[3], weights.p[0][0], weights.p[0][1]);
        }
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            float& o = state->o[c + j][i];
            o = simt::fma(o, weights.shrink[i % 2], acc[i] * output_unit);
        }
    }
}

template <PageKind kind, int VD, bool in_two, class Bytes, bool partial>
KVC_DEVICE void add_row_values(const RowRun<Bytes, partial>& run, const RunWeights<1, in_two>& weights, WarpState<VD>* state) {
    constexpr int widest = widest_run(coding<kind>.meta.v_groups), fours = value_fours(VD, widest), twos = value_twos(VD, widest);
    KVC_UNROLL
    for (int c = 0; c < fours; c += 4) {
        add_row_values_of<VD, 4, widest>(run, weights, c, state);
    }
    KVC_UNROLL
    for (int c = fours; c < fours + twos; c += 2) {
        add_row_values_of<VD, 2, widest>(run, weights, c, state);
    }
    if constexpr (VD / 16 > fours + twos) {
        add_row_values_of<VD, 1, widest>(run, weights, fours + twos, state);
    }
}

}  // namespace kvc::cuda

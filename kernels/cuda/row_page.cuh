// Sixteen 16-bit rows at a time: the residual window, the sinks, and all pages of the fp16 preset. No ldmatrix and no transposed copy:
// a lane's 16 bytes of a key are two fragments as they lie, and the values of two tokens are interleaved by byte permutations.
// Reads (KD + VD) * 2 bytes a token, which bounds it.
#pragma once
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// Sixteen rows of fp16 or bf16. Of a partial run, rows whose bit is not set hold anything, or do not exist.
template <bool partial>
struct RowRun {
    const std::byte* keys;
    const std::byte* values;
    uint32_t present;

    KVC_DEVICE bool has(int token) const { return !partial || (present >> token & 1); }
};

// `words` words at p, in one load.
template <int words>
KVC_DEVICE void load_words(const std::byte* p, uint32_t (&out)[words]) {
    if constexpr (words == 4) {
        const simt::Words4 v = simt::load_128(p);
        out[0] = v.w[0], out[1] = v.w[1], out[2] = v.w[2], out[3] = v.w[3];
    } else if constexpr (words == 2) {
        const simt::Words2 v = simt::load_64(p);
        out[0] = v.w[0], out[1] = v.w[1];
    } else {
        out[0] = simt::load_32(p);
    }
}

// The same of a row that may not exist; zeros then. What was never written may be NaN, which even a weight of 0 does not silence.
template <int words>
KVC_DEVICE void load_words_if(bool exists, const std::byte* p, uint32_t (&out)[words]) {
    if (exists) {
        load_words(p, out);
    } else {
        KVC_UNROLL
        for (int i = 0; i < words; i++) {
            out[i] = 0;
        }
    }
}

// x += a, in bf16, times the sum of b and its rest: two products, but none of the 11 bits that fp16 has is lost.
KVC_DEVICE void multiply_in_two(float (&x)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const uint32_t (&rest)[2]) {
    simt::mma_bf16(x, a[0], a[1], a[2], a[3], b[0], b[1]);
    simt::mma_bf16(x, a[0], a[1], a[2], a[3], rest[0], rest[1]);
}

// Adds the products of `fragments` (1 or 2) fragments from k on.
template <int KD, int fragments, PageKind kind, bool partial>
KVC_DEVICE void row_scores_of(const RowRun<partial>& run, const QueryTile<KD, kind>& query, int k, float (&x)[4]) {
    const int row = simt::lane() / 4;
    const std::byte* const at_lane = run.keys + (row * KD + key_channel(KD, k, simt::lane() % 4, 0)) * 2;
    uint32_t lower[2 * fragments], upper[2 * fragments];
    load_words_if(run.has(row), at_lane, lower);
    load_words_if(run.has(row + 8), at_lane + 8 * KD * 2, upper);
    KVC_UNROLL
    for (int i = 0; i < fragments; i++) {
        const uint32_t a[4] = {lower[2 * i], upper[2 * i], lower[2 * i + 1], upper[2 * i + 1]};
        if constexpr (QueryTile<KD, kind>::in_two) {
            multiply_in_two(x, a, query.q[k + i], query.q_rest[k + i]);
        } else {
            simt::mma(x, a[0], a[1], a[2], a[3], query.q[k + i][0], query.q[k + i][1]);
        }
    }
}

template <int KD, PageKind kind, bool partial>
KVC_DEVICE void row_scores(const RowRun<partial>& run, const QueryTile<KD, kind>& query, float (&x)[4]) {
    x[0] = x[1] = x[2] = x[3] = 0.0f;
    KVC_UNROLL
    for (int k = 0; k + 1 < KD / 16; k += 2) {
        row_scores_of<KD, 2>(run, query, k, x);
    }
    if constexpr (KD / 16 % 2 == 1) {
        row_scores_of<KD, 1>(run, query, KD / 16 - 1, x);
    }
    constexpr float unit = score_unit<kind>;
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        x[i] *= query.to_log2[i % 2] * unit;
    }
}

// A run of fragments whose channels a lane reads as `words` words a token (layout.cuh).
template <int VD, int words, bool in_two, bool partial>
KVC_DEVICE void add_row_values_of(const RowRun<partial>& run, const RunWeights<1, in_two>& weights, int c, int widest,
                                  WarpState<VD>* state) {
    const int quad = simt::lane() % 4;
    const std::byte* const at_lane = run.values + (2 * quad * VD + value_channel(VD, c, simt::lane() / 4, 0, widest)) * 2;
    uint32_t v[4][words];  // tokens 2 quad + 0, 1, 8, 9
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int token = i % 2 + 8 * (i / 2);
        load_words_if(run.has(2 * quad + token), at_lane + token * VD * 2, v[i]);
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

template <PageKind kind, int VD, bool in_two, bool partial>
KVC_DEVICE void add_row_values(const RowRun<partial>& run, const RunWeights<1, in_two>& weights, WarpState<VD>* state) {
    constexpr int widest = widest_run(coding<kind>.grouped), fours = value_fours(VD, widest), twos = value_twos(VD, widest);
    KVC_UNROLL
    for (int c = 0; c < fours; c += 4) {
        add_row_values_of<VD, 4>(run, weights, c, widest, state);
    }
    KVC_UNROLL
    for (int c = fours; c < fours + twos; c += 2) {
        add_row_values_of<VD, 2>(run, weights, c, widest, state);
    }
    if constexpr (VD / 16 > fours + twos) {
        add_row_values_of<VD, 1>(run, weights, fours + twos, widest, state);
    }
}

}  // namespace kvc::cuda

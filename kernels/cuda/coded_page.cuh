// Pages of 4-bit keys (a scale and zero point for 32 tokens of each channel, 8 bits under a super-scale) and 4-bit values (a scale for
// each token): scores and weighted values straight from the codes, without dequantizing.
//
// A code in bits 0..3 or 4..7 of a half is, read as fp16, the subnormal number code * 2^-24 or code * 2^-20, which tensor cores
// multiply exactly: one AND makes two operands. Scales fold into the other operand: the keys' into the queries, for each half of the
// page; the values' into the weights. Zero points are one more product, summed apart, since all tokens of a half share them.
// Reads CodeRecord::end bytes a page; bound by the issue of instructions (counted by `make gates`).
#pragma once
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

constexpr uint32_t lower_codes = 0x000f000fu;
constexpr uint32_t upper_codes = 0x00f000f0u;

// Four bytes as two words of two fp16 subnormals each.
struct WideBytes {
    uint32_t low, high;
};
KVC_DEVICE WideBytes widen(uint32_t bytes) { return {simt::permute_bytes(bytes, 0, 0x4140), simt::permute_bytes(bytes, 0, 0x4342)}; }

// acc += codes (16 rows, 16 columns of one word a lane) * b; the upper rows count 16-fold.
KVC_DEVICE void multiply_codes(float (&acc)[4], uint32_t word, uint32_t b0, uint32_t b1) {
    const uint32_t right = word >> 8;
    simt::mma(acc, word & lower_codes, word & upper_codes, right & lower_codes, right & upper_codes, b0, b1);
}

template <int KD, int VD, class Bytes>
KVC_DEVICE void coded_scores(const Bytes& record, const QueryTile<KD>& query, float (&x)[4][4]) {
    using Record = CodeRecord<KD, VD>;
    const Bytes at_lane = record.plus(code_offset(0, simt::lane(), 0));
    const Bytes at_quad = record.plus(key_meta_offset(0, simt::lane() % 4, 0, false, 0));
    // Rows 0..7 of this product are token tile 0, rows 8..15 tile 1.
    float zero[4] = {query.zero_base[0], query.zero_base[1], query.zero_base[0], query.zero_base[1]};
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        x[t][0] = x[t][1] = x[t][2] = x[t][3] = 0.0f;
    }
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        const uint32_t q0 = query.q[k][0], q1 = query.q[k][1];
        const simt::Words4 meta = at_quad.load_128(Record::k_meta + key_meta_offset(k, 0, 0, false, 0));
        const simt::Words4 codes = at_lane.load_128(Record::k_codes + code_offset(k, 0, 0));
        const WideBytes zero0 = widen(meta.w[2]), zero1 = widen(meta.w[3]);
        simt::mma(zero, zero0.low, zero1.low, zero0.high, zero1.high, q0, q1);
        KVC_UNROLL
        for (int tile = 0; tile < 2; tile++) {
            const WideBytes scale = widen(meta.w[tile]);
            const uint32_t b0 = simt::multiply_halves(q0, scale.low), b1 = simt::multiply_halves(q1, scale.high);
            multiply_codes(x[2 * tile], codes.w[2 * tile], b0, b1);
            multiply_codes(x[2 * tile + 1], codes.w[2 * tile + 1], b0, b1);
        }
    }
    const simt::Words2 super = record.load_64(Record::k_super);
    KVC_UNROLL
    for (int tile = 0; tile < 2; tile++) {
        const float scale = simt::half_to_float(super.w[tile] & 0xffff), zero_scale = simt::half_to_float(super.w[tile] >> 16);
        KVC_UNROLL
        for (int column = 0; column < 2; column++) {
            const float slope = query.to_log2[column] * scale;
            const float offset = query.to_log2[column] * 0x1p-24f * zero_scale * zero[2 * tile + column];
            KVC_UNROLL
            for (int t = 2 * tile; t < 2 * tile + 2; t++) {
                x[t][column] = simt::fma(x[t][column], slope, offset);
                x[t][2 + column] = simt::fma(x[t][2 + column], slope * 0x1p-4f, offset);
            }
        }
    }
}

template <int KD, int VD, class Bytes>
KVC_DEVICE void load_value_scales(const Bytes& record, uint32_t (&scales)[4][2]) {
    const Bytes at = record.plus(CodeRecord<KD, VD>::v_meta + value_scale_offset(2 * (simt::lane() % 4)));
    KVC_UNROLL
    for (int half = 0; half < 2; half++) {
        const simt::Words4 words = at.load_128(16 * half);
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            scales[2 * half + i / 2][i % 2] = words.w[i];
        }
    }
}

// The room that weights may take up beside these scales: a bit tells scales of 2 and more.
KVC_DEVICE float room_beside(const uint32_t (&scales)[4][2]) {
    uint32_t all = 0;
    KVC_UNROLL
    for (int i = 0; i < 8; i++) {
        all |= scales[i / 2][i % 2];
    }
    return simt::any((all & 0x40004000u) != 0) ? headroom_large_scales : headroom;
}

template <int KD, int VD, class Bytes>
KVC_DEVICE void add_coded_values(const Bytes& record, const uint32_t (&scales)[4][2], const RunWeights<4>& weights,
                                 WarpState<VD>* state) {
    using Record = CodeRecord<KD, VD>;
    // The middle of the codes, 8, out of every product: as the upper rows hold it, 16-fold, it is a whole number of units.
    constexpr uint32_t minus_middle = (0x8000u | 128) * 0x10001u;
    const Bytes at_lane = record.plus(code_offset(0, simt::lane(), 0));
    uint32_t b[4][2];
    float middle[4] = {};
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        b[t][0] = simt::multiply_halves(weights.p[t][0], scales[t][0]);
        b[t][1] = simt::multiply_halves(weights.p[t][1], scales[t][1]);
        simt::mma(middle, 0, minus_middle, 0, minus_middle, b[t][0], b[t][1]);
    }
    middle[0] = middle[2] * 0x1p-4f;
    middle[1] = middle[3] * 0x1p-4f;
    KVC_UNROLL
    for (int c = 0; c < VD / 16; c++) {
        const simt::Words4 codes = at_lane.load_128(Record::v_codes + code_offset(c, 0, 0));
        // A page's sum of its own, so that what cancels in it is as large as one page, not as the whole context.
        float acc[4] = {middle[0], middle[1], middle[2], middle[3]};
        KVC_UNROLL
        for (int t = 0; t < 4; t++) {
            multiply_codes(acc, codes.w[t], b[t][0], b[t][1]);
        }
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            state->o[c][i] = simt::fma(state->o[c][i], weights.shrink[i % 2], acc[i]);
        }
    }
}

}  // namespace kvc::cuda

// Coded pages: scores and weighted values straight from the codes, without dequantizing.
//
// A code in the lowest ten bits of a half is, read as fp16, the subnormal number code * 2^-24 * 2^place, which tensor cores multiply
// exactly: one AND makes two operands. Where a code lies depends on its token alone (layout.cuh), so the factor 2^place is taken out of
// the token's logit and out of its weight. Scales fold into the other operand: the keys' into the queries, for each half of the page; the
// values' into the weights. Zero points are one more product, summed apart, since all tokens of a half share them.
// Reads the record once; bound by the issue of instructions (counted by `make gates`).
#pragma once
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

// Four fp16 numbers in two words.
struct FourHalves {
    uint32_t low, high;
};
// Four bytes as subnormals.
KVC_DEVICE FourHalves widen(uint32_t bytes) { return {simt::permute_bytes(bytes, 0, 0x4140), simt::permute_bytes(bytes, 0, 0x4342)}; }

// ---- codes ----

// Reads a lane's words of a part's fragments, from the first on.
template <int bits, int dim, class Bytes>
struct FragmentReader {
    static constexpr bool has_narrow = bits == 3 || (bits == 2 && dim / 16 % 2 == 1);
    static constexpr int wide_bytes = bits == 3 ? 8 : 16, narrow_bytes = bits == 3 ? 4 : 8;

    Bytes wide, narrow;  // from where the lane's loads of either width are a constant away
    uint32_t next[2] = {};

    KVC_DEVICE FragmentReader(const Bytes& record, int codes)
        : wide(record.plus(codes + simt::lane() * wide_bytes)),
          narrow(has_narrow ? record.plus(codes + simt::lane() * narrow_bytes) : wide) {}

    KVC_DEVICE void read(int fragment, uint32_t (&words)[bits]) {
        const int at = code_offset(bits, dim, fragment, 0, 0);
        if constexpr (bits == 2) {
            if ((fragment | 1) == dim / 16) {
                take(narrow.load_64(at), words);
            } else if (fragment % 2 == 0) {
                const simt::Words4 two = wide.load_128(at);
                words[0] = two.w[0], words[1] = two.w[1];
                next[0] = two.w[2], next[1] = two.w[3];
            } else {
                words[0] = next[0], words[1] = next[1];
            }
        } else if constexpr (bits == 3) {
            take(wide.load_64(at), words);
            words[2] = narrow.load_32(code_offset(bits, dim, fragment, 0, 2));
        } else {
            KVC_UNROLL
            for (int i = 0; i < bits / 4; i++) {
                const simt::Words4 four = wide.load_128(at + 512 * i);
                KVC_UNROLL
                for (int w = 0; w < 4; w++) {
                    words[4 * i + w] = four.w[w];
                }
            }
        }
    }

    static KVC_DEVICE void take(const simt::Words2& two, uint32_t (&words)[bits]) { words[0] = two.w[0], words[1] = two.w[1]; }
};

// The operands of one product: those of token classes 2 t and 2 t + 1.
struct TileCodes {
    uint32_t of[2][2];  // [class][member]
};

KVC_HOST_DEVICE constexpr uint32_t in_both_halves(uint32_t bits) { return bits * 0x10001u; }

template <int bits>
KVC_DEVICE TileCodes tile_codes(const uint32_t (&words)[bits], int t) {
    TileCodes codes;
    KVC_UNROLL
    for (int half = 0; half < 2; half++) {
        const int token_class = 2 * t + half;
        // The class's first member; its second lies behind it in the same word, except for the last two classes of three bits.
        const CodePlace place = code_place(bits, token_class, 0, 0);
        const uint32_t word = words[place.word], mask = in_both_halves(((1u << bits) - 1) << class_shift(bits, token_class));
        codes.of[half][0] = word & mask;
        if (bits == 8) {
            codes.of[half][1] = simt::permute_bytes(word, 0, 0x4341);
        } else if (bits != 3) {
            codes.of[half][1] = word >> 8 & mask;
        } else if (token_class < 6) {
            codes.of[half][1] = word >> 9 & mask;
        } else if (token_class == 6) {
            codes.of[half][1] = words[1] & mask;
        } else {
            codes.of[half][1] = (words[0] >> 9 & in_both_halves(1u << 6)) | (words[1] >> 8 & in_both_halves(1u << 7)) |
                                (words[bits - 1] >> 7 & in_both_halves(1u << 8));
        }
    }
    return codes;
}

// acc += keys * b: tokens are rows.
KVC_DEVICE void multiply_keys(float (&acc)[4], const TileCodes& codes, uint32_t b0, uint32_t b1) {
    simt::mma(acc, codes.of[0][0], codes.of[1][0], codes.of[0][1], codes.of[1][1], b0, b1);
}
// acc += values * b: tokens are the contraction.
KVC_DEVICE void multiply_values(float (&acc)[4], const TileCodes& codes, uint32_t b0, uint32_t b1) {
    simt::mma(acc, codes.of[0][0], codes.of[0][1], codes.of[1][0], codes.of[1][1], b0, b1);
}

// 2^-class_shift, as a number and as two halves.
KVC_DEVICE float class_unit(int bits, int token_class) { return 1.0f / float(1 << class_shift(bits, token_class)); }
KVC_DEVICE uint32_t class_unit_halves(int bits, int token_class) {
    return in_both_halves(uint32_t(15 - class_shift(bits, token_class)) << 10);
}

// ---- keys ----

// Logits of one half of the page's tokens: scores times the slope, less what the token's place adds, and the zero points' part.
template <int bits>
KVC_DEVICE void finish_half(int half_page, int column, float slope, float offset, float (&x)[4][4]) {
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int t = 2 * half_page + i / 2, half = i % 2;
        float& score = x[t][2 * half + column];
        score = simt::fma(score, slope * class_unit(bits, 2 * t + half), offset);
    }
}

KVC_DEVICE void clear(float (&x)[4][4]) {
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        x[t][0] = x[t][1] = x[t][2] = x[t][3] = 0.0f;
    }
}

// Of a fragment's channels, four numbers in fp16 for each group of the page's tokens.
template <int groups>
struct KeyScales {
    FourHalves scale[groups], zero[groups];
};

// Numbers of 8 bits as fp16 subnormals, zero points with their bias.
template <PageKind kind, class Bytes>
KVC_DEVICE KeyScales<coding<kind>.meta.k_groups> load_key_scales(const Bytes& at_quad, int offset) {
    constexpr Metadata meta = coding<kind>.meta;
    if constexpr (meta.k_halves && meta.k_groups == 2) {
        const simt::Words4 scale = at_quad.load_128(offset), zero = at_quad.load_128(offset + 16);
        return {{{scale.w[0], scale.w[1]}, {scale.w[2], scale.w[3]}}, {{zero.w[0], zero.w[1]}, {zero.w[2], zero.w[3]}}};
    } else if constexpr (meta.k_halves) {
        const simt::Words4 both = at_quad.load_128(offset);
        return {{{both.w[0], both.w[1]}}, {{both.w[2], both.w[3]}}};
    } else if constexpr (meta.k_groups == 2) {
        const simt::Words4 all = at_quad.load_128(offset);
        return {{widen(all.w[0]), widen(all.w[1])}, {widen(all.w[2]), widen(all.w[3])}};
    } else {
        const simt::Words2 both = at_quad.load_64(offset);
        return {{widen(both.w[0])}, {widen(both.w[1])}};
    }
}

// Adds the products of a fragment with the queries times the scales of its channels, those of each group of tokens.
template <int bits, int groups>
KVC_DEVICE void add_key_fragment(const uint32_t (&words)[bits], const uint32_t (&q)[2], const FourHalves (&scale)[groups],
                                 float (&x)[4][4]) {
    constexpr int tiles = 4 / groups;
    KVC_UNROLL
    for (int g = 0; g < groups; g++) {
        const uint32_t b0 = simt::multiply_halves(q[0], scale[g].low), b1 = simt::multiply_halves(q[1], scale[g].high);
        KVC_UNROLL
        for (int t = g * tiles; t < (g + 1) * tiles; t++) {
            multiply_keys(x[t], tile_codes<bits>(words, t), b0, b1);
        }
    }
}

// What scales and zero points of 8 bits are multiples of.
struct SuperPair {
    float scale, zero;
};
template <PageKind kind, class Bytes>
KVC_DEVICE SuperPair super_pair(const Bytes& record, int offset, int group) {
    if constexpr (coding<kind>.meta.k_halves) {
        return {1.0f, 1.0f};
    } else {
        const uint32_t pair = coding<kind>.meta.k_groups == 2 ? record.load_64(offset).w[group] : record.load_32(offset);
        return {simt::half_to_float(pair & 0xffff), simt::half_to_float(pair >> 16)};
    }
}

template <PageKind kind, int KD, int VD, class Bytes>
KVC_DEVICE void coded_scores(const Bytes& record, const QueryTile<KD, kind>& query, float (&x)[4][4]) {
    using Record = CodeRecord<kind, KD, VD>;
    constexpr Metadata meta = Record::meta;
    constexpr int bits = Record::k_bits, groups = meta.k_groups;
    FragmentReader<bits, KD, Bytes> reader(record, Record::k_codes);
    const Bytes at_quad = record.plus(key_meta_offset(meta, 0, simt::lane() % 4, 0, false, 0));
    // Rows 0..7 of this product are the first half of the tokens, rows 8..15 the second.
    float zero[4] = {};
    if constexpr (!meta.k_halves) {
        zero[0] = zero[2] = query.zero_base[0], zero[1] = zero[3] = query.zero_base[1];
    }
    clear(x);
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        const KeyScales<groups> scales = load_key_scales<kind>(at_quad, Record::k_meta + key_meta_offset(meta, k, 0, 0, false, 0));
        uint32_t words[bits];
        reader.read(k, words);
        const FourHalves &lower = scales.zero[0], &upper = scales.zero[groups - 1];
        simt::mma(zero, lower.low, upper.low, lower.high, upper.high, query.q[k][0], query.q[k][1]);
        add_key_fragment<bits>(words, query.q[k], scales.scale, x);
    }
    KVC_UNROLL
    for (int half = 0; half < 2; half++) {
        const SuperPair super = super_pair<kind>(record, Record::k_super, half * groups / 2);
        KVC_UNROLL
        for (int column = 0; column < 2; column++) {
            const float offset = query.to_log2[column] * code_unit * super.zero * zero[2 * half + column];
            finish_half<bits>(half, column, query.to_log2[column] * super.scale, offset, x);
        }
    }
}

// ---- values ----

// One number for each token, fp16: of the lane's, tokens 16 t + 2 quad + {0, 1}, and + {8, 9}.
struct TokenHalves {
    uint32_t of[4][2];
};

template <class Bytes>
KVC_DEVICE TokenHalves load_token_halves(const Bytes& at_quad, int offset) {
    TokenHalves halves;
    KVC_UNROLL
    for (int i = 0; i < 2; i++) {
        const simt::Words4 words = at_quad.load_128(offset + 16 * i);
        KVC_UNROLL
        for (int j = 0; j < 4; j++) {
            halves.of[2 * i + j / 2][j % 2] = words.w[j];
        }
    }
    return halves;
}

// From where a lane's scales in the first group, or those of all channels, are a constant away.
template <PageKind kind, int KD, int VD>
KVC_DEVICE int value_meta_of_lane() {
    return CodeRecord<kind, KD, VD>::v_meta + value_scale_offset(2 * (simt::lane() % 4));
}

// The scales that tell how large weights may be: of tokens, all of them; of groups, those of one group, and each row of lanes has another.
template <PageKind kind, int KD, int VD, class Bytes>
KVC_DEVICE TokenHalves load_value_scales(const Bytes& record) {
    const int group = coding<kind>.meta.v_groups ? simt::lane() / 4 % (VD / value_group) : 0;
    return load_token_halves(record.plus(value_meta_of_lane<kind, KD, VD>() + group * value_group_bytes), 0);
}

// The room that weights may take up beside these scales: a bit tells scales of 2 and more.
KVC_DEVICE float room_beside(const TokenHalves& scales) {
    uint32_t all = 0;
    KVC_UNROLL
    for (int i = 0; i < 8; i++) {
        all |= scales.of[i / 2][i % 2];
    }
    return simt::any((all & 0x40004000u) != 0) ? headroom_large_scales : headroom;
}

// Weights times scales, less what the places of the codes add.
template <int bits>
KVC_DEVICE void scale_weights(const RunWeights<4>& weights, const TokenHalves& scales, uint32_t (&b)[4][2]) {
    KVC_UNROLL
    for (int i = 0; i < 8; i++) {
        uint32_t& product = b[i / 2][i % 2];
        product = simt::multiply_halves(weights.p[i / 2][i % 2], scales.of[i / 2][i % 2]);
        if (class_shift(bits, i) > 0) {
            product = simt::multiply_halves(product, class_unit_halves(bits, i));
        }
    }
}

// Adds the page's part of `beside` fragments of channels from c on, `start` for codes of 0. The part is summed apart, so that what
// cancels in it is as large as one page, not as the whole context. Fragments take turns: each product waits for the one before it in its
// sum.
template <int beside, int bits, int dim, class Bytes>
KVC_DEVICE void add_value_fragments(FragmentReader<bits, dim, Bytes>* reader, int c, const uint32_t (&b)[4][2], const float (&start)[2],
                                    const float (&shrink)[2], float (&o)[dim / 16][4]) {
    uint32_t words[beside][bits];
    float acc[beside][4];
    KVC_UNROLL
    for (int j = 0; j < beside; j++) {
        reader->read(c + j, words[j]);
        acc[j][0] = acc[j][2] = start[0];
        acc[j][1] = acc[j][3] = start[1];
    }
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        KVC_UNROLL
        for (int j = 0; j < beside; j++) {
            multiply_values(acc[j], tile_codes<bits>(words[j], t), b[t][0], b[t][1]);
        }
    }
    KVC_UNROLL
    for (int i = 0; i < 4 * beside; i++) {
        float& sum = o[c + i / 4][i % 4];
        sum = simt::fma(sum, shrink[i % 2], acc[i / 4][i % 4]);
    }
}

// Values with a scale for each token.
template <PageKind kind, int KD, int VD, class Bytes>
KVC_DEVICE void add_values_of_tokens(const Bytes& record, int twice_middle, const TokenHalves& scales, const RunWeights<4>& weights,
                                     WarpState<VD>* state) {
    using Record = CodeRecord<kind, KD, VD>;
    constexpr int bits = Record::v_bits;
    FragmentReader<bits, VD, Bytes> reader(record, Record::v_codes);
    uint32_t b[4][2];
    scale_weights<bits>(weights, scales, b);
    // The middle of the codes out of every product, twice and then halved: the middle of least squares lies between two codes.
    float middle[4] = {};
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        const uint32_t lower = in_both_halves(0x8000u | uint32_t(twice_middle) << class_shift(bits, 2 * t));
        const uint32_t upper = in_both_halves(0x8000u | uint32_t(twice_middle) << class_shift(bits, 2 * t + 1));
        simt::mma(middle, lower, lower, upper, upper, b[t][0], b[t][1]);
    }
    const float start[2] = {middle[0] * 0.5f, middle[1] * 0.5f};
    KVC_UNROLL
    for (int c = 0; c + 1 < VD / 16; c += 2) {
        add_value_fragments<2>(&reader, c, b, start, weights.shrink, state->o);
    }
    if constexpr (VD / 16 % 2 == 1) {
        add_value_fragments<1>(&reader, VD / 16 - 1, b, start, weights.shrink, state->o);
    }
}

// Values with a scale and a zero point for 32 channels of each token.
template <PageKind kind, int KD, int VD, class Bytes>
KVC_DEVICE void add_values_of_groups(const Bytes& record, const RunWeights<4>& weights, WarpState<VD>* state) {
    using Record = CodeRecord<kind, KD, VD>;
    constexpr int bits = Record::v_bits;
    FragmentReader<bits, VD, Bytes> reader(record, Record::v_codes);
    const Bytes at_quad = record.plus(value_meta_of_lane<kind, KD, VD>());
    KVC_UNROLL
    for (int g = 0; g < VD / value_group; g++) {
        uint32_t b[4][2];
        scale_weights<bits>(weights, load_token_halves(at_quad, g * value_group_bytes), b);
        const TokenHalves zeros = load_token_halves(at_quad, Record::v_zeros - Record::v_meta + g * value_group_bytes);
        float zero[4] = {};
        KVC_UNROLL
        for (int t = 0; t < 4; t++) {
            simt::mma(zero, zeros.of[t][0], zeros.of[t][0], zeros.of[t][1], zeros.of[t][1], weights.p[t][0], weights.p[t][1]);
        }
        const float start[2] = {zero[0] * code_unit, zero[1] * code_unit};
        add_value_fragments<2>(&reader, 2 * g, b, start, weights.shrink, state->o);
    }
}

template <PageKind kind, int KD, int VD, class Bytes>
KVC_DEVICE void add_coded_values(const Bytes& record, int twice_middle, const TokenHalves& scales, const RunWeights<4>& weights,
                                 WarpState<VD>* state) {
    if constexpr (coding<kind>.meta.v_groups) {
        add_values_of_groups<kind, KD, VD>(record, weights, state);
    } else {
        add_values_of_tokens<kind, KD, VD>(record, twice_middle, scales, weights, state);
    }
}

}  // namespace kvc::cuda

// Where tokens, channels and metadata lie in this backend's records; kernels and host code read them from here alone.
//
// 16-bit records (window, sinks) are rows: keys [tokens][k_dim], then values [tokens][v_dim].
// Code records are in the order in which the lanes of a warp feed mma.m16n8k16, with keys and values as its A operand, so that no lane
// ever needs another's bytes. docs/design/cuda.md draws it.
//
// Channels are dealt to lanes so that rows and fragments agree: a lane's 16 bytes of a fp16 row are channels that follow each other.
#pragma once
#include "kernels/cuda/simt.cuh"
#include "kernels/cuda/supported.h"

namespace kvc::cuda {

constexpr int warps = 4;  // of every block
constexpr int threads = warps * 32;
constexpr int tile_rows = 8;  // query rows that a block computes: the N of mma.m16n8k16

// Keys, contraction over channels: fragment k (16 channels), quad = lane % 4, e = 0 .. 3 (the halves of B's, or A's, two words).
KVC_HOST_DEVICE constexpr int key_channel(int dim, int k, int quad, int e) {
    const bool paired = (k | 1) < dim / 16;
    return paired ? 32 * (k / 2) + 8 * quad + 4 * (k & 1) + e : 16 * k + 4 * quad + e;
}

// Values, channels as rows of the product: fragment c, row = lane / 4 of 8, upper = 1 for row + 8.
// Channels come in runs of 64, then 32, then 16, of which a lane row takes 8, 4 or 2 that follow each other. Where values are coded in
// groups of 32 channels, whose scales the rows of a fragment must share, runs are not wider: widest is their fragments, 4 or 2.
KVC_HOST_DEVICE constexpr int value_fours(int dim, int widest) { return widest == 4 ? dim / 64 * 4 : 0; }  // fragments in runs of four
KVC_HOST_DEVICE constexpr int value_twos(int dim, int widest) { return (dim / 16 - value_fours(dim, widest)) / 2 * 2; }
KVC_HOST_DEVICE constexpr int value_run(int dim, int c, int widest) {  // fragments in the run of c
    const int fours = value_fours(dim, widest);
    return c < fours ? 4 : c < fours + value_twos(dim, widest) ? 2 : 1;
}
KVC_HOST_DEVICE constexpr int value_run_start(int dim, int c, int widest) {
    return c / value_run(dim, c, widest) * value_run(dim, c, widest);
}
KVC_HOST_DEVICE constexpr int value_channel(int dim, int c, int row, int upper, int widest = 4) {
    const int start = value_run_start(dim, c, widest), run = value_run(dim, c, widest);
    return 16 * start + 2 * run * row + 2 * (c - start) + upper;
}
KVC_HOST_DEVICE constexpr int widest_run(bool v_groups) { return v_groups ? 2 : 4; }

// The other way: which fragment and lane a channel belongs to.
struct KeyPlace {
    int fragment, quad, e;
};
KVC_HOST_DEVICE constexpr KeyPlace key_place(int dim, int channel) {
    if (channel < dim / 32 * 32) {
        return {channel / 32 * 2 + channel % 8 / 4, channel % 32 / 8, channel % 4};
    }
    return {channel / 16, channel % 16 / 4, channel % 4};
}

struct ValuePlace {
    int fragment, row, upper;
};
KVC_HOST_DEVICE constexpr ValuePlace value_place(int dim, int channel, int widest) {
    const int run = value_run(dim, channel / 16, widest), start = value_run_start(dim, channel / 16, widest);
    const int within = channel - 16 * start;
    return {start + within % (2 * run) / 2, within / (2 * run), within % 2};
}

// ---- codes ----
//
// A fragment is 16 channels of a page's 64 tokens: four products of 16 tokens, of which a lane has four operand words of two codes each. Of
// tile t and half h (of the tile's tokens), token class 2 t + h, a lane holds the members m = 0, 1 and of each the elements i = 0, 1:
//     keys:   token 16 t + 8 h + lane / 4,              channel key_channel(.., lane % 4, 2 m + i)
//     values: token 16 t + 8 h + 2 (lane % 4) + i,      channel value_channel(.., lane / 4, m)
// That is 32 codes, in as many words as a code has bits. Element i of an operand lies in half i of a word, at a place which all lanes
// share, so that one AND, for some after a shift, makes an operand: fp16 subnormals code * 2^-24 * 2^class_shift.

struct CodePlace {
    int word, bit;
    bool spread;  // bit n of the code lies in word n, at `bit`; otherwise at bit + n of the one word
};

KVC_HOST_DEVICE constexpr CodePlace code_place(int bits, int token_class, int member, int element) {
    const int half = 16 * element;
    switch (bits) {
    case 8:
        return {token_class, half + 8 * member, false};
    case 4:
        return {token_class / 2, half + 8 * member + 4 * (token_class % 2), false};
    case 2:
        return {token_class / 4, half + 8 * member + 2 * (token_class % 4), false};
    default:  // 3: five codes in a half, and in its highest bit, word by word, the bits of a sixteenth
        if (token_class < 6) {
            return {token_class / 2, half + 9 * member + 3 * (token_class % 2), false};
        }
        return token_class == 6 ? CodePlace{member, half + 6, false}
               : member == 0    ? CodePlace{2, half + 6, false}
                                : CodePlace{0, half + 15, true};
    }
}

// By how many bits the codes of a token class are too high as they leave the AND.
KVC_HOST_DEVICE constexpr int class_shift(int bits, int token_class) {
    return bits == 8         ? 0
           : bits == 4       ? 4 * (token_class % 2)
           : bits == 2       ? 2 * (token_class % 4)
           : token_class < 6 ? 3 * (token_class % 2)
                             : 6;
}

KVC_HOST_DEVICE constexpr int fragment_bytes(int bits) { return bits * 128; }

// Byte offset, from the part's codes, of word w of a lane. Lanes' words lie side by side in arrays for loads of 16, 8 and 4 bytes: 8 bits
// two loads of 16, 4 bits one, 3 bits one of 8 and one of 4, 2 bits one of 16 for two fragments, of 8 for a last odd one.
KVC_HOST_DEVICE constexpr int code_offset(int bits, int dim, int fragment, int lane, int w) {
    const int start = fragment * fragment_bytes(bits);
    switch (bits) {
    case 8:
        return start + (w / 4 * 32 + lane) * 16 + w % 4 * 4;
    case 4:
        return start + lane * 16 + w * 4;
    case 3:
        return w < 2 ? start + lane * 8 + w * 4 : start + 256 + lane * 4;
    default:
        return (fragment | 1) < dim / 16 ? fragment / 2 * 512 + lane * 16 + fragment % 2 * 8 + w * 4 : start + lane * 8 + w * 4;
    }
}

// ---- metadata ----

// Keys: of (fragment k, quad) the scales of the page's first group of tokens, of its second, the zero points of the first, of the second,
// a number for each element e. Zero points of 8 bits are stored plus 128.
KVC_HOST_DEVICE constexpr int key_meta_offset(const Metadata& meta, int k, int quad, int group, bool zero, int e) {
    const int numbers = (k * 4 + quad) * 8 * meta.k_groups + (zero ? 4 * meta.k_groups : 0) + group * 4 + e;
    return meta.k_halves ? 2 * numbers : numbers;
}
constexpr int zero_point_bias = 128;

// Scales of values, fp16: 32 bytes of a quad; tokens 16 t + 2 quad + {0, 1, 8, 9}. Groups of channels follow each other, 128 bytes each,
// all scales before all zero points.
KVC_HOST_DEVICE constexpr int value_scale_offset(int token) {
    const int t = token / 16, quad = token % 8 / 2, upper = token % 16 / 8;
    return quad * 32 + t * 8 + upper * 4 + (token & 1) * 2;
}
constexpr int value_group_bytes = page_tokens * 2;
// Super pairs of keys: fp16 scale and zero of each group of tokens.
KVC_HOST_DEVICE constexpr int super_offset(int group, bool zero) { return group * 4 + (zero ? 2 : 0); }

}  // namespace kvc::cuda

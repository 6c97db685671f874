// Where tokens, channels and metadata lie in this backend's records; kernels and host code read them from here alone.
//
// 16-bit records (window, sinks) are rows: keys [tokens][k_dim], then values [tokens][v_dim].
// Code records are in the order in which the lanes of a warp feed mma.m16n8k16, with keys and values as its A operand, so that one
// 16-byte load of a lane is four fragments and no lane ever needs another's bytes. docs/design/cuda.md draws it.
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
// Channels come in runs of 64, then 32, then 16, of which a lane row takes 8, 4 or 2 that follow each other.
KVC_HOST_DEVICE constexpr int value_run(int dim, int c) {
    return c < dim / 64 * 4 ? 4 : c - dim / 64 * 4 < dim % 64 / 32 * 2 ? 2 : 1;  // fragments in the run of c
}
KVC_HOST_DEVICE constexpr int value_run_start(int dim, int c) {
    const int fours = dim / 64 * 4;
    return c < fours ? c / 4 * 4 : value_run(dim, c) == 2 ? fours : c;
}
KVC_HOST_DEVICE constexpr int value_channel(int dim, int c, int row, int upper) {
    const int start = value_run_start(dim, c), run = value_run(dim, c);
    return 16 * start + 2 * run * row + 2 * (c - start) + upper;
}

// ---- code records of 4-bit keys per channel (groups of 32 tokens, m8) and 4-bit values per token ----

// Codes of keys: word t (16 tokens) of the 16 bytes of (fragment k, lane). Token 16 t + row + 8 upper, row = lane / 4, and element e
// lie in the nibble given here. One AND (after a shift by 8 for the higher elements) leaves two codes in a word as fp16 numbers:
// the subnormals code * 2^-24, or code * 2^-20 for the upper row. See attend_coded.cuh.
KVC_HOST_DEVICE constexpr int nibble_shift(int upper, int e) { return 16 * (e & 1) + 8 * (e / 2) + 4 * upper; }
KVC_HOST_DEVICE constexpr int code_offset(int fragment, int lane, int t) { return (fragment * 32 + lane) * 16 + t * 4; }

// Metadata of keys: 16 bytes of (fragment k, quad): scales of token tile 0, of tile 1, zero points of tile 0, of tile 1, a byte for
// each element e. Zero points are stored plus 128.
KVC_HOST_DEVICE constexpr int key_meta_offset(int k, int quad, int tile, bool zero, int e) {
    return (k * 4 + quad) * 16 + (zero ? 8 : 0) + tile * 4 + e;
}
constexpr int zero_point_bias = 128;

// Scales of values, fp16: 32 bytes of a quad; tokens 16 t + 2 quad + {0, 1, 8, 9}.
KVC_HOST_DEVICE constexpr int value_scale_offset(int token) {
    const int t = token / 16, quad = token % 8 / 2, upper = token % 16 / 8;
    return quad * 32 + t * 8 + upper * 4 + (token & 1) * 2;
}
// Super pairs of keys: fp16 scale and zero of each token tile.
KVC_HOST_DEVICE constexpr int super_offset(int tile, bool zero) { return tile * 4 + (zero ? 2 : 0); }

}  // namespace kvc::cuda

// The canonical form of a coded page: what every backend must produce from the same 64 tokens, however it orders bytes in memory.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/codec/format.h"

namespace kvc {

// One part of a page, of integer codes. Codes are one byte each, [64][dim]; metadata are the stored numbers: channel axis
// [64 / group][dim], token axis [dim / group][64]. What the codec does not use is unspecified.
struct CanonicalPart {
    uint8_t codes[page_tokens * dim_limit];
    uint16_t scales[page_tokens * dim_limit / 16];  // fp16 bits, or the 8-bit number of m8 (1 .. 255)
    uint16_t zeros[page_tokens * dim_limit / 16];   // fp16 bits, or the 8 bits of a two's complement number of m8 (-127 .. 127)
    uint16_t super_scale[4], super_zero[4];         // fp16 bits, one pair per token tile
};

// Scales (and as many zero points, unless symmetric) of one part.
int64_t group_count(const Codec& codec, int64_t dim);

// Encodes x [64][dim] (finite fp16 numbers, in the stored basis). The scalar truth of the codes.
void encode_part(const Codec& codec, int dim, const float* x, CanonicalPart* out);
// Decodes all 64 tokens to x [64][dim].
void decode_part(const Codec& codec, int dim, const CanonicalPart& part, float* x);

// Whether two parts are the same in everything that the codec stores.
bool same_part(const Codec& codec, int dim, const CanonicalPart& a, const CanonicalPart& b);

// The rotation of docs/FORMATS.md in place: x -> H x, with H the orthonormal Hadamard matrix of the largest power of two
// that divides dim, repeated along the diagonal; it is its own inverse.
void rotate(float* x, int dim);

}  // namespace kvc

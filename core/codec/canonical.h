// The canonical form of a coded page: what every backend must produce from the same 64 tokens, however it orders bytes in memory.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/codec/format.h"

namespace kvc {

// One part of a page. Codes are one byte each, [64][dim]; metadata are the stored numbers, in the order of docs/FORMATS.md.
struct CanonicalPart {
    uint8_t codes[page_tokens * dim_limit];
    uint16_t scales[page_tokens * dim_limit / 16];  // fp16 bits, or the 8-bit number of m8
    uint16_t zeros[page_tokens * dim_limit / 16];
    uint16_t super_scale[4], super_zero[4];  // fp16 bits, one pair per token tile
};

// Encodes x [64][dim] (numbers that the 16-bit window holds, in the stored basis). The scalar truth of the codes.
void encode_part(const Codec& codec, int dim, const float* x, CanonicalPart* out);
// Decodes all 64 tokens to x [64][dim].
void decode_part(const Codec& codec, int dim, const CanonicalPart& part, float* x);

// The Hadamard rotation of docs/FORMATS.md in place: blocks of the largest power of two that divides dim; it is its own inverse.
void rotate(float* x, int dim);

}  // namespace kvc

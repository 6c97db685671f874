// The byte order of records in CPU memory, the same for every CPU target; docs/FORMATS.md describes it for people.
// The one place that knows it: kernels take addresses from here.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/codec/format.h"

// Unnamed namespaces in this folder's headers give every target its own copy, compiled for its own instruction set.
namespace kvc {
namespace {

// Codes lie in blocks of 64 bytes. A unit is 64 codes that share one bit position of a block, one code per byte; 8 / bits units
// share a block. Keys: a unit is 16 tokens x 4 channels, so that dot products over channels need no horizontal sums.
// Values: 16 channels x 4 tokens, so that sums over tokens need none.
struct Unit {
    int64_t block;  // index in the plane
    int shift;      // of the code in its byte
};

constexpr int unit_bytes = 64;

// Tokens 16 tb .. 16 tb + 15, channels 4 dq .. 4 dq + 3, of keys with dim channels. Tiles of 32 tokens lie together at 8 and 4 bits.
constexpr Unit k_unit(int bits, int dim, int tb, int dq) {
    switch (bits) {
    case 8:
        return {int64_t{(tb / 2 * (dim / 4) + dq) * 2 + tb % 2}, 0};
    case 4:
        return {int64_t{tb / 2 * (dim / 4) + dq}, tb % 2 * 4};
    case 2:
        return {int64_t{dq}, tb * 2};
    default:
        return {int64_t{dq / 2}, dq % 2 * 4 + tb};
    }
}
constexpr int k_byte(int t, int d) { return t % 16 * 4 + d % 4; }

// Channels 16 dt .. 16 dt + 15, tokens 4 tq .. 4 tq + 3, of values.
constexpr Unit v_unit(int bits, int dt, int tq) {
    const int units = 8 / bits;
    return {int64_t{dt * (16 / units) + tq / units}, tq % units * bits};
}
constexpr int v_byte(int t, int d) { return d % 16 * 4 + t % 4; }

// Numbers of 16 bits: window records, and 16-bit parts of code records. Elements from the part's start.
constexpr int64_t k16_index(int dim, int t, int d) { return (int64_t{t / 16} * dim + d) * 16 + t % 16; }
constexpr int64_t v16_index(int dim, int t, int d) { return int64_t{t} * dim + d; }

// Offsets in bytes from the record's start.
inline int64_t window_v_offset(const LayerFormat& f) { return int64_t{page_tokens} * f.k_dim * 2; }
inline int64_t sink_v_offset(const LayerFormat& f) { return f.codec.sinks * f.k_dim * 2; }

// Widths that are no power of two have a plane of low bits and one of high bits (core/codec/code_types.def); others have one plane.
struct Plane {
    int64_t offset;  // from the record's start
    int bits;
    int first_bit;  // of the code
};

struct Planes {
    Plane plane[2];
    int n;
};

inline Planes planes_of(const Codec& codec, const PartLayout& part) {
    const int bits = bits_of(codec.type), high = high_bits_of(codec.type);
    if (high > 0) {
        return {{{part.codes, bits - high, 0}, {part.high_plane, high, bits - high}}, 2};
    }
    return {{{part.codes, bits, 0}, {}}, 1};
}

}  // namespace
}  // namespace kvc

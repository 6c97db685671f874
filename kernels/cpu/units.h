// Units of codes, 64 bytes each (layout.h), into the planes of a part.
#pragma once
#include "kernels/cpu/code_dot.h"

namespace kvc::simd {
namespace {

// Codes of a whole part, one to a byte, as units in the order (token block, channel quad) of keys, (channel block, token quad) of values.
struct UnitBuffer {
    alignas(64) std::byte bytes[page_tokens * dim_limit];

    std::byte* at(int64_t unit) { return bytes + unit * unit_bytes; }
    const std::byte* at(int64_t unit) const { return bytes + unit * unit_bytes; }
};

// Bits [first, first + bits) of the codes, moved up by `to`.
template <int bits, int first, int to>
KVC_INLINE Words plane_bits(Words codes) {
    constexpr int mask = ((1 << bits) - 1) * 0x101;
    return word_bits < first - to, (mask << to) & 0xffff > (codes);
}

// One block from 8 / bits units; unit(i) gives the i-th.
template <int bits, int first, class Units>
KVC_INLINE Words block_of(const Units& unit) {
    Words block = plane_bits<bits, first, 0>(load_words(unit(0)));
    if constexpr (bits <= 4) {
        block = either(block, plane_bits < bits, first, bits == 4 ? 4 : bits > (load_words(unit(1))));
    }
    if constexpr (bits <= 2) {
        block = either(block, plane_bits<bits, first, 2 * bits>(load_words(unit(2))));
        block = either(block, plane_bits<bits, first, 3 * bits>(load_words(unit(3))));
    }
    if constexpr (bits == 1) {
        block = either(block, plane_bits<1, first, 4>(load_words(unit(4))));
        block = either(block, plane_bits<1, first, 5>(load_words(unit(5))));
        block = either(block, plane_bits<1, first, 6>(load_words(unit(6))));
        block = either(block, plane_bits<1, first, 7>(load_words(unit(7))));
    }
    return block;
}

// Packs one plane of keys: blocks in memory order, each from the units that k_unit puts there.
template <int bits, int first>
void pack_key_plane(const UnitBuffer& units, int64_t dim, std::byte* plane) {
    const int64_t quads = dim / 4;
    const auto unit = [&](int64_t tb, int64_t quad) { return units.at(tb * quads + quad); };
    if constexpr (bits == 8) {
        for (int64_t tb = 0; tb < page_tokens / 16; ++tb) {
            for (int64_t quad = 0; quad < quads; ++quad) {
                store(plane + k_unit(8, int(dim), int(tb), int(quad)).block * unit_bytes, load_words(unit(tb, quad)));
            }
        }
    } else if constexpr (bits == 4) {
        for (int64_t block = 0; block < 2 * quads; ++block) {
            const int64_t tb = block / quads * 2, quad = block % quads;
            store(plane + block * unit_bytes, block_of<4, first>([&](int64_t i) { return unit(tb + i, quad); }));
        }
    } else if constexpr (bits == 2) {
        for (int64_t quad = 0; quad < quads; ++quad) {
            store(plane + quad * unit_bytes, block_of<2, first>([&](int64_t i) { return unit(i, quad); }));
        }
    } else {
        for (int64_t block = 0; block < quads / 2; ++block) {
            store(plane + block * unit_bytes, block_of<1, first>([&](int64_t i) { return unit(i % 4, block * 2 + i / 4); }));
        }
    }
}

// Packs one plane of values, whose units follow each other in a block.
template <int bits, int first>
void pack_value_plane(const UnitBuffer& units, int64_t dim, std::byte* plane) {
    constexpr int n = 8 / bits;
    for (int64_t block = 0; block < dim * page_tokens / (unit_bytes * n); ++block) {
        store(plane + block * unit_bytes, block_of<bits, first>([&](int64_t i) { return units.at(block * n + i); }));
    }
}

template <bool keys, int bits, int first>
void pack_plane(const UnitBuffer& units, int64_t dim, std::byte* plane) {
    if constexpr (keys) {
        pack_key_plane<bits, first>(units, dim, plane);
    } else {
        pack_value_plane<bits, first>(units, dim, plane);
    }
}

template <bool keys>
void pack_units(CodeType type, const UnitBuffer& units, int64_t dim, const PartLayout& layout, std::byte* record) {
    switch (type) {
    case CodeType::int8:
        return pack_plane<keys, 8, 0>(units, dim, record + layout.codes);
    case CodeType::int4:
        return pack_plane<keys, 4, 0>(units, dim, record + layout.codes);
    case CodeType::int3:
        pack_plane<keys, 2, 0>(units, dim, record + layout.codes);
        return pack_plane<keys, 1, 2>(units, dim, record + layout.high_plane);
    case CodeType::int2:
        return pack_plane<keys, 2, 0>(units, dim, record + layout.codes);
    default:
        __builtin_unreachable();
    }
}

}  // namespace
}  // namespace kvc::simd

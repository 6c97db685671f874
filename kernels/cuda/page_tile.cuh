// A page in shared memory as fp16 numbers, in the order in which lanes feed mma.m16n8k16 with its B operand: what the prompt kernels
// multiply many query rows with. A block dequantizes each page once.
//
// Records hold codes in the order of the A operand, with tokens (keys) or channels (values) as rows. As the B operand's columns they
// belong to the same lanes: rows 0..7 of a fragment are one B operand, rows 8..15 the next. So a lane dequantizes what it loaded and
// stores 16 bytes at its own place; nothing is transposed, and neither stores nor loads meet in a bank.
#pragma once
#include "kernels/cuda/query_tile.cuh"
#include "kernels/cuda/row_page.cuh"

namespace kvc::cuda {

// Two B operands of 16 (contraction) x 8: {0, 1} and {2, 3}.
struct alignas(16) TileWords {
    uint32_t w[4];
};

// Keys: fragment = 16 channels of the contraction, t = 16 tokens: columns 16 t + 0..7 and 16 t + 8..15.
// Values: fragment = 16 channels, of which the columns are the lower and the upper ones (value_channel); t = 16 tokens of the contraction.
KVC_HOST_DEVICE constexpr int tile_offset(int fragment, int t, int lane) { return ((fragment * 4 + t) * 32 + lane) * 16; }
KVC_HOST_DEVICE constexpr int tile_bytes(int dim) { return dim * page_tokens * 2; }

// at_lane: the lane's place in the tile's first fragment.
KVC_DEVICE TileWords load_tile(const std::byte* at_lane, int fragment, int t) {
    return *reinterpret_cast<const TileWords*>(at_lane + tile_offset(fragment, t, 0));
}
// Who fills a tile: all threads of the block, beside outputs that leave few registers.
struct Filler {
    int lane, warp;
    KVC_DEVICE static Filler self() {
        const int thread = simt::thread_anew();
        return {thread & 31, thread >> 5};
    }
    KVC_DEVICE int row() const { return lane / 4; }
    KVC_DEVICE int quad() const { return lane % 4; }
    KVC_DEVICE void store(std::byte* tile, int fragment, int t, const TileWords& words) const {
        *reinterpret_cast<TileWords*>(tile + tile_offset(fragment, t, lane)) = words;
    }
};

// Numbers that come from codes are halved in the tile: what they were coded from fits fp16, but the largest code times its scale may
// lie a little beyond.
constexpr float coded_unit = 2.0f;

// Where the parts of a code record lie.
struct CodedOffsets {
    int k_codes, k_meta, k_super, v_codes, v_meta;
};

// Scale and zero point of each of a lane's four elements along the contraction, for one t.
struct ElementScales {
    float scale[4], zero[4];
};

// One word of 4-bit codes as two B operands: every code is an fp16 subnormal of a known unit (layout.cuh), which an f32 holds exactly;
// times its scale, plus its zero point, it is rounded to fp16 once.
KVC_DEVICE TileWords dequantize_word(uint32_t word, const ElementScales& s) {
    TileWords out;
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int upper = i / 2, pair = i % 2;
        const uint32_t codes = (word >> (8 * pair)) & (upper ? 0x00f000f0u : 0x000f000fu);
        const float unit = upper ? 0x1p20f : 0x1p24f;
        const float low = simt::half_to_float(codes & 0xffff) * unit, high = simt::half_to_float(codes >> 16) * unit;
        out.w[i] = simt::pack_halves(simt::fma(low, s.scale[2 * pair], s.zero[2 * pair]),
                                     simt::fma(high, s.scale[2 * pair + 1], s.zero[2 * pair + 1]));
    }
    return out;
}

KVC_DEVICE float byte_of(uint32_t word, int i) { return float(word >> (8 * i) & 0xff); }

// Keys in groups of 32 tokens with 8-bit scales and zero points under a super pair. All warps of the block.
template <int KD>
KVC_DEVICE void fill_coded_keys(const std::byte* record, const CodedOffsets& offsets, std::byte* tile) {
    const Filler self = Filler::self();
    const simt::Words2 super = simt::load_64(record + offsets.k_super);
    for (int k = self.warp; k < KD / 16; k += warps) {
        const simt::Words4 meta = simt::load_128(record + offsets.k_meta + key_meta_offset(k, self.quad(), 0, false, 0));
        const simt::Words4 codes = simt::load_128(record + offsets.k_codes + code_offset(k, self.lane, 0));
        KVC_UNROLL
        for (int half = 0; half < 2; half++) {
            const float scale = simt::half_to_float(super.w[half] & 0xffff) * (1 / coded_unit);
            const float zero = simt::half_to_float(super.w[half] >> 16) * (1 / coded_unit);
            ElementScales s;
            KVC_UNROLL
            for (int e = 0; e < 4; e++) {
                s.scale[e] = byte_of(meta.w[half], e) * scale;
                s.zero[e] = (byte_of(meta.w[2 + half], e) - float(zero_point_bias)) * zero;
            }
            self.store(tile, k, 2 * half, dequantize_word(codes.w[2 * half], s));
            self.store(tile, k, 2 * half + 1, dequantize_word(codes.w[2 * half + 1], s));
        }
    }
}

// Values with a scale for each token.
template <int VD>
KVC_DEVICE void fill_coded_values(const std::byte* record, const CodedOffsets& offsets, std::byte* tile) {
    const Filler self = Filler::self();
    ElementScales s[4];
    KVC_UNROLL
    for (int half = 0; half < 2; half++) {
        const simt::Words4 words = simt::load_128(record + offsets.v_meta + value_scale_offset(2 * self.quad()) + 16 * half);
        KVC_UNROLL
        for (int i = 0; i < 8; i++) {
            const float scale = simt::half_to_float(words.w[i / 2] >> (16 * (i % 2)) & 0xffff) * (1 / coded_unit);
            s[2 * half + i / 4].scale[i % 4] = scale;
            s[2 * half + i / 4].zero[i % 4] = -8.0f * scale;
        }
    }
    for (int c = self.warp; c < VD / 16; c += warps) {
        const simt::Words4 codes = simt::load_128(record + offsets.v_codes + code_offset(c, self.lane, 0));
        KVC_UNROLL
        for (int t = 0; t < 4; t++) {
            self.store(tile, c, t, dequantize_word(codes.w[t], s[t]));
        }
    }
}

// ---- 16-bit rows; those whose bit is not set in `present` hold anything, or do not exist, and are zeros in the tile ----

template <int KD>
KVC_DEVICE void fill_row_keys(const std::byte* keys, uint64_t present, std::byte* tile) {
    const Filler self = Filler::self();
    const int row = self.row(), quad = self.quad();
    constexpr int pairs = KD / 32;
    for (int i = self.warp; i < 4 * pairs; i += warps) {
        const int t = i % 4, k = i / 4 * 2, token = 16 * t + row;
        const simt::GlobalBytes at{keys + (token * KD + key_channel(KD, k, quad, 0)) * 2};
        uint32_t lower[4], upper[4];
        load_words_if((present >> token & 1) != 0, at, 0, lower);
        load_words_if((present >> (token + 8) & 1) != 0, at, 8 * KD * 2, upper);
        self.store(tile, k, t, {lower[0], lower[1], upper[0], upper[1]});
        self.store(tile, k + 1, t, {lower[2], lower[3], upper[2], upper[3]});
    }
    if constexpr (KD / 16 % 2 == 1) {
        constexpr int k = KD / 16 - 1;
        const int t = self.warp, token = 16 * t + row;
        const simt::GlobalBytes at{keys + (token * KD + key_channel(KD, k, quad, 0)) * 2};
        uint32_t lower[2], upper[2];
        load_words_if((present >> token & 1) != 0, at, 0, lower);
        load_words_if((present >> (token + 8) & 1) != 0, at, 8 * KD * 2, upper);
        self.store(tile, k, t, {lower[0], lower[1], upper[0], upper[1]});
    }
}

// A run of fragments whose channels a lane reads as `words` words a token (layout.cuh), for 16 tokens. unit: a pair of halves.
template <int VD, int words>
KVC_DEVICE void fill_row_values_of(const Filler& self, const std::byte* values, uint64_t present, int c, int t, uint32_t unit,
                                   std::byte* tile) {
    const int first = 16 * t + 2 * self.quad();
    const simt::GlobalBytes at{values + (first * VD + value_channel(VD, c, self.row(), 0)) * 2};
    uint32_t v[4][words];  // tokens first + 0, 1, 8, 9
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int token = first + i % 2 + 8 * (i / 2);
        load_words_if((present >> token & 1) != 0, at, (i % 2 + 8 * (i / 2)) * VD * 2, v[i]);
    }
    KVC_UNROLL
    for (int j = 0; j < words; j++) {
        TileWords out;
        KVC_UNROLL
        for (int i = 0; i < 4; i++) {
            const uint32_t both = simt::permute_bytes(v[2 * (i % 2)][j], v[2 * (i % 2) + 1][j], i < 2 ? 0x5410 : 0x7632);
            out.w[i] = simt::multiply_halves(both, unit);
        }
        self.store(tile, c + j, t, out);
    }
}

template <int VD>
KVC_DEVICE void fill_row_values(const std::byte* values, uint64_t present, uint32_t unit, std::byte* tile) {
    constexpr int fours = VD / 64 * 4, twos = VD % 64 / 32 * 2;
    const Filler self = Filler::self();
    const int t = self.warp;
    static_assert(warps == page_tokens / 16);
    KVC_NO_UNROLL
    for (int c = 0; c < fours; c += 4) {
        fill_row_values_of<VD, 4>(self, values, present, c, t, unit, tile);
    }
    if constexpr (twos > 0) {
        fill_row_values_of<VD, 2>(self, values, present, fours, t, unit, tile);
    }
    if constexpr (VD / 16 > fours + twos) {
        fill_row_values_of<VD, 1>(self, values, present, fours + twos, t, unit, tile);
    }
}

}  // namespace kvc::cuda

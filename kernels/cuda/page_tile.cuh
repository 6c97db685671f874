// A page in shared memory as fp16 numbers, in the order in which lanes feed mma.m16n8k16 with its B operand: what the prompt kernels
// multiply many query rows with. A block dequantizes each page once.
//
// Records hold codes in the order of the A operand, with tokens (keys) or channels (values) as rows. As the B operand's columns they
// belong to the same lanes: rows 0..7 of a fragment are one B operand, rows 8..15 the next. So a lane dequantizes what it loaded and
// stores 16 bytes at its own place; nothing is transposed, and neither stores nor loads meet in a bank.
#pragma once
#include "kernels/cuda/coded_page.cuh"
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

// How a code record is coded, and where its parts lie.
struct CodedForm {
    int k_bits, v_bits;  // 16: records are rows
    Metadata meta;
    int v_twice_middle;
    int k_codes, k_meta, k_super, v_codes, v_meta, v_zeros;
};

// Scale and zero point of each of a lane's four elements along the contraction.
struct ElementScales {
    float scale[4], zero[4];
};

// Two codes of a class as they leave the AND, an f32 each times its scale plus its zero point, rounded to fp16 once.
KVC_DEVICE uint32_t dequantize_pair(uint32_t codes, float unit, const ElementScales& s, int first) {
    const float low = simt::half_to_float(codes & 0xffff), high = simt::half_to_float(codes >> 16);
    return simt::pack_halves(simt::fma(low, s.scale[first] * unit, s.zero[first]),
                             simt::fma(high, s.scale[first + 1] * unit, s.zero[first + 1]));
}

// From the unit of a token class's codes, which are subnormals.
KVC_DEVICE float class_lift(int bits, int token_class) { return class_unit(bits, token_class) / code_unit; }

// A lane's part of one product's codes as two B operands. Of keys, token classes are columns and members the contraction; of values the
// other way round.
template <int bits>
KVC_DEVICE TileWords dequantize_keys(const uint32_t (&words)[bits], int t, const ElementScales& s) {
    const TileCodes codes = tile_codes<bits>(words, t);
    TileWords out;
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int half = i / 2, member = i % 2;
        out.w[i] = dequantize_pair(codes.of[half][member], class_lift(bits, 2 * t + half), s, 2 * member);
    }
    return out;
}
template <int bits>
KVC_DEVICE TileWords dequantize_values(const uint32_t (&words)[bits], int t, const ElementScales& s) {
    const TileCodes codes = tile_codes<bits>(words, t);
    TileWords out;
    KVC_UNROLL
    for (int i = 0; i < 4; i++) {
        const int half = i % 2, member = i / 2;
        out.w[i] = dequantize_pair(codes.of[half][member], class_lift(bits, 2 * t + half), s, 2 * half);
    }
    return out;
}

KVC_DEVICE float byte_of(uint32_t word, int i) { return float(word >> (8 * i) & 0xff); }
KVC_DEVICE float half_of(const uint32_t* words, int i) { return simt::half_to_float(words[i / 2] >> (16 * (i % 2)) & 0xffff); }

// Scales of a fragment's channels in one group of tokens: 8 bits under a super pair.
KVC_DEVICE ElementScales pair_scales(uint32_t scales, uint32_t zeros, uint32_t super) {
    const float scale = simt::half_to_float(super & 0xffff) * (1 / coded_unit);
    const float zero = simt::half_to_float(super >> 16) * (1 / coded_unit);
    ElementScales s;
    KVC_UNROLL
    for (int e = 0; e < 4; e++) {
        s.scale[e] = byte_of(scales, e) * scale;
        s.zero[e] = (byte_of(zeros, e) - float(zero_point_bias)) * zero;
    }
    return s;
}

// The same of four numbers in fp16 each.
KVC_DEVICE ElementScales half_scales(const uint32_t* scales, const uint32_t* zeros) {
    ElementScales s;
    KVC_UNROLL
    for (int e = 0; e < 4; e++) {
        s.scale[e] = half_of(scales, e) * (1 / coded_unit);
        s.zero[e] = half_of(zeros, e) * (1 / coded_unit);
    }
    return s;
}

// Of a fragment's channels in both halves of the page's tokens.
template <bool halves>
KVC_DEVICE void load_key_scales(const Filler& self, const std::byte* record, const CodedForm& form, int k, ElementScales (&s)[2]) {
    const bool one_group = form.meta.k_groups == 1;
    const std::byte* const at =
        record + form.k_meta + key_meta_offset({form.meta.k_groups, halves, false}, k, self.quad(), 0, false, 0);
    if constexpr (halves) {
        const simt::Words4 first = simt::load_128(at);
        if (one_group) {
            s[0] = s[1] = half_scales(first.w, first.w + 2);
        } else {
            const simt::Words4 zeros = simt::load_128(at + 16);
            s[0] = half_scales(first.w, zeros.w);
            s[1] = half_scales(first.w + 2, zeros.w + 2);
        }
    } else if (one_group) {
        const simt::Words2 both = simt::load_64(at);
        s[0] = s[1] = pair_scales(both.w[0], both.w[1], simt::load_32(record + form.k_super));
    } else {
        const simt::Words4 all = simt::load_128(at);
        const simt::Words2 super = simt::load_64(record + form.k_super);
        s[0] = pair_scales(all.w[0], all.w[2], super.w[0]);
        s[1] = pair_scales(all.w[1], all.w[3], super.w[1]);
    }
}

template <int bits, bool halves>
KVC_DEVICE void fill_key_fragment(const Filler& self, const std::byte* record, const CodedForm& form, int k,
                                  const uint32_t (&words)[bits], std::byte* tile) {
    ElementScales s[2];
    load_key_scales<halves>(self, record, form, k, s);
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        self.store(tile, k, t, dequantize_keys<bits>(words, t, s[t / 2]));
    }
}

// All warps of the block; each takes two fragments in a row, as two-bit codes are read.
template <int KD, int bits, bool halves>
KVC_DEVICE void fill_keys_of(const std::byte* record, const CodedForm& form, std::byte* tile) {
    const Filler self = Filler::self();
    FragmentReader<bits, KD, simt::GlobalBytes> reader({record}, form.k_codes);
    KVC_NO_UNROLL
    for (int k = 2 * self.warp; k < KD / 16; k += 2 * warps) {
        uint32_t words[bits];
        reader.read(k, words);
        fill_key_fragment<bits, halves>(self, record, form, k, words, tile);
        if (KD / 16 % 2 == 0 || k + 1 < KD / 16) {
            reader.read(k + 1, words);
            fill_key_fragment<bits, halves>(self, record, form, k + 1, words, tile);
        }
    }
}

#define KVC_CUDA_KIND(name, k_bits, v_bits, k_group, k_meta_bits, v_group) \
    static_assert(k_meta_bits == 8 || k_bits == 4 || k_bits == 2, "fill_coded_keys has no other keys with fp16 scales");
KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND

template <int KD>
KVC_DEVICE void fill_coded_keys(const std::byte* record, const CodedForm& form, std::byte* tile) {
    if (form.meta.k_halves) {
        form.k_bits == 4 ? fill_keys_of<KD, 4, true>(record, form, tile) : fill_keys_of<KD, 2, true>(record, form, tile);
    } else if (form.k_bits == 4) {
        fill_keys_of<KD, 4, false>(record, form, tile);
    } else if (form.k_bits == 8) {
        fill_keys_of<KD, 8, false>(record, form, tile);
    } else if (form.k_bits == 3) {
        fill_keys_of<KD, 3, false>(record, form, tile);
    } else {
        fill_keys_of<KD, 2, false>(record, form, tile);
    }
}

// ---- values ----

// Where a lane's part of fragment c goes: values in groups have an order of channels of their own (value_channel), in which what lies
// together stays together.
template <int VD, bool grouped>
KVC_DEVICE void store_values(const Filler& self, std::byte* tile, int c, int t, const TileWords& words) {
    if (grouped && c < value_fours(VD, 4)) {
        const int row = c / 2 % 2 * 4 + self.row() / 2, fragment = c / 4 * 4 + self.row() % 2 * 2 + c % 2;
        Filler{4 * row + self.quad(), self.warp}.store(tile, fragment, t, words);
    } else {
        self.store(tile, c, t, words);
    }
}

// Scales of values for tokens 16 t + 2 quad + {0, 1, 8, 9}: of tokens, or of a group of channels.
template <bool grouped>
KVC_DEVICE void load_value_scales(const Filler& self, const std::byte* record, const CodedForm& form, int group,
                                  ElementScales (&s)[4]) {
    const simt::GlobalBytes at{record + value_scale_offset(2 * self.quad()) + group * value_group_bytes};
    const TokenHalves scales = load_token_halves(at, form.v_meta);
    TokenHalves zeros = scales;
    if constexpr (grouped) {
        zeros = load_token_halves(at, form.v_zeros);
    }
    KVC_UNROLL
    for (int t = 0; t < 4; t++) {
        s[t] = half_scales(scales.of[t], zeros.of[t]);
        KVC_UNROLL
        for (int e = 0; e < 4; e++) {
            s[t].zero[e] = grouped ? s[t].zero[e] : s[t].scale[e] * (-0.5f * float(form.v_twice_middle));
        }
    }
}

template <int VD, int bits, bool grouped>
KVC_DEVICE void fill_values_of(const std::byte* record, const CodedForm& form, std::byte* tile) {
    const Filler self = Filler::self();
    FragmentReader<bits, VD, simt::GlobalBytes> reader({record}, form.v_codes);
    ElementScales s[4];
    // Loaded in the loop's first turn alone, they look unwritten in the others, and ptxas keeps them through all pages: 32 registers, on
    // Blackwell for each width of codes (docs/design/cuda.md, 4). Beside more than 128 channels the others do better with it.
    const bool before_loop = !grouped && (VD <= 128 || simt::is_blackwell());
    if (before_loop) {
        load_value_scales<grouped>(self, record, form, 0, s);
    }
    KVC_NO_UNROLL
    for (int pair = self.warp; pair < (VD / 16 + 1) / 2; pair += warps) {
        if (grouped || (!before_loop && pair == self.warp)) {
            load_value_scales<grouped>(self, record, form, grouped ? pair : 0, s);
        }
        KVC_UNROLL
        for (int c = 0; c < 2; c++) {
            if (VD / 16 % 2 == 0 || 2 * pair + c < VD / 16) {
                uint32_t words[bits];
                reader.read(2 * pair + c, words);
                KVC_UNROLL
                for (int t = 0; t < 4; t++) {
                    store_values<VD, grouped>(self, tile, 2 * pair + c, t, dequantize_values<bits>(words, t, s[t]));
                }
            }
        }
    }
}

template <int VD>
KVC_DEVICE void fill_coded_values(const std::byte* record, const CodedForm& form, std::byte* tile) {
    if (form.meta.v_groups) {
        if constexpr (VD % value_group == 0) {
            form.v_bits == 4 ? fill_values_of<VD, 4, true>(record, form, tile) : fill_values_of<VD, 2, true>(record, form, tile);
        }
    } else if (form.v_bits == 4) {
        fill_values_of<VD, 4, false>(record, form, tile);
    } else if (form.v_bits == 8) {
        fill_values_of<VD, 8, false>(record, form, tile);
    } else if (form.v_bits == 3) {
        fill_values_of<VD, 3, false>(record, form, tile);
    } else {
        fill_values_of<VD, 2, false>(record, form, tile);
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
    constexpr int fours = value_fours(VD, 4), twos = value_twos(VD, 4);
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

// ---- bf16 ----

// The largest magnitude of a tile of bf16, as this thread sees it.
template <int dim>
KVC_DEVICE float largest_of_thread(const std::byte* tile) {
    float largest = 0.0f;
    for (int i = simt::thread(); i < tile_bytes(dim) / 16; i += threads) {
        const TileWords words = reinterpret_cast<const TileWords*>(tile)[i];
        KVC_UNROLL
        for (int w = 0; w < 4; w++) {
            largest = simt::maximum(largest, simt::float_of_bits(words.w[w] << 16 & 0x7fff0000u));
            largest = simt::maximum(largest, simt::float_of_bits(words.w[w] & 0x7fff0000u));
        }
    }
    return largest;
}

// Turns a tile of bf16 into fp16, times a power of two that brings its largest number to 2^14 .. 2^15: exact for numbers down to 2^-28
// of that. Returns the unit of what the tile holds then. All threads of the block, in step before; partial: a float for each warp.
template <int dim>
KVC_DEVICE float lift_bfloats(std::byte* tile, float* partial) {
    float largest = largest_of_thread<dim>(tile);
    KVC_UNROLL
    for (int distance = 1; distance < 32; distance *= 2) {
        largest = simt::maximum(largest, simt::shuffle_xor(largest, distance));
    }
    if (simt::lane() == 0) {
        partial[simt::warp()] = largest;
    }
    simt::sync_block();
    KVC_UNROLL
    for (int w = 0; w < warps; w++) {
        largest = simt::maximum(largest, partial[w]);
    }
    const int lift = lift_to(14, largest);
    const float lifted = power_of_two(lift);
    for (int i = simt::thread(); i < tile_bytes(dim) / 16; i += threads) {
        TileWords& words = reinterpret_cast<TileWords*>(tile)[i];
        KVC_UNROLL
        for (int w = 0; w < 4; w++) {
            words.w[w] = simt::pack_halves(simt::float_of_bits(words.w[w] << 16) * lifted,
                                           simt::float_of_bits(words.w[w] & 0xffff0000u) * lifted);
        }
    }
    return power_of_two(-lift);
}

}  // namespace kvc::cuda

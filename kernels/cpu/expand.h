// Pages to f32 tiles: keys as [token block of 16][dim][16 tokens], values as [block of 16 channels][64 tokens][16 channels].
// The numbers are bit for bit those of decode_part: (code - middle) * scale + zero, each operation rounded.
#pragma once
#include "kernels/cpu/part_view.h"

namespace kvc::simd {
namespace {

// All scales and zero points of a part: channel axis [tile][dim], token axis [group][64].
struct PartScales {
    float scale[page_tokens * dim_limit / 16], zero[page_tokens * dim_limit / 16];
};

inline void load_part_scales(const PartView& part, PartScales* out) {
    if (part.codec->axis == Axis::channel) {
        for (int64_t tile = 0; tile < page_tokens / part.codec->group; ++tile) {
            load_channel_scales(part, tile, 0, out->scale + tile * part.dim, out->zero + tile * part.dim);
        }
        return;
    }
    for (int64_t g = 0; g < part.dim / channels_per_scale(part); ++g) {
        for (int64_t t = 0; t < page_tokens; t += 16) {
            const TokenScales scales = load_token_scales(part, g, t, 0);
            store(out->scale + g * page_tokens + t, scales.scale);
            store(out->zero + g * page_tokens + t, scales.zero);
        }
    }
}

// The codes in one byte of every lane: `shift` is their place in the main plane's byte, high_shift that of int3's third bit.
template <int bits, int shift, int high_shift, int byte>
KVC_INLINE Floats codes_of(Words low, Words high) {
    if constexpr (bits == 3) {
        return to_floats(add(lane_bits<shift + 8 * byte, 3>(low), lane_bits<high_shift + 8 * byte - 2, 4>(high)));
    } else {
        return to_floats(lane_bits<shift + 8 * byte, (1 << bits) - 1>(low));
    }
}

// Calls visit(std::integral_constant<int, j>()) for the four bytes of a lane.
template <class Visit>
KVC_INLINE void for_each_byte(const Visit& visit) {
    visit(std::integral_constant<int, 0>());
    visit(std::integral_constant<int, 1>());
    visit(std::integral_constant<int, 2>());
    visit(std::integral_constant<int, 3>());
}

KVC_INLINE Floats decode(Floats code, float middle, Floats scale, Floats zero) {
    return add(mul(sub(code, broadcast(middle)), scale), zero);
}

template <int bits>
void expand_key_codes(const PartView& k, float* tile) {
    constexpr int plane = bits == 3 ? 2 : bits;
    const CodePlanes planes = code_planes(k);
    const float middle = middle_of(*k.codec);
    const bool by_channel = k.codec->axis == Axis::channel;
    const int64_t channels = channels_per_scale(k);
    PartScales scales;
    load_part_scales(k, &scales);
    for_each_token_block([&]<int tb>(std::integral_constant<int, tb>) __attribute__((always_inline)) {
        for (int64_t quad = 0; quad < k.dim / 4; ++quad) {
            const Words low = load_words(planes.codes + k_unit(plane, int(k.dim), tb, int(quad)).block * unit_bytes);
            Words high = low;
            if constexpr (bits == 3) {
                const Unit unit = k_unit(1, int(k.dim), tb, int(quad));
                high = word_shift(load_words(planes.high + unit.block * unit_bytes), unit.shift);
            }
            for_each_byte([&]<int byte>(std::integral_constant<int, byte>) __attribute__((always_inline)) {
                const int64_t d = quad * 4 + byte;
                const int64_t at = by_channel ? tb * 16 / k.codec->group * k.dim + d : d / channels * page_tokens + tb * 16;
                const Floats scale = by_channel ? broadcast(scales.scale[at]) : load(scales.scale + at);
                const Floats zero = by_channel ? broadcast(scales.zero[at]) : load(scales.zero + at);
                store(tile + (tb * k.dim + d) * 16,
                      decode(codes_of<bits, k_unit(plane, 16, tb, 0).shift, 0, byte>(low, high), middle, scale, zero));
            });
        }
    });
}

template <int bits>
void expand_value_codes(const PartView& v, float* tile) {
    constexpr int plane = bits == 3 ? 2 : bits;
    const CodePlanes planes = code_planes(v);
    const float middle = middle_of(*v.codec);
    const bool by_channel = v.codec->axis == Axis::channel;
    const int64_t channels = channels_per_scale(v);
    PartScales scales;
    load_part_scales(v, &scales);
    for (int64_t dt = 0; dt < v.dim / 16; ++dt) {
        for (int64_t tq = 0; tq < page_tokens / 4; ++tq) {
            const Unit unit = v_unit(plane, int(dt), int(tq)), high_unit = v_unit(1, int(dt), int(tq));
            const Words low = word_shift(load_words(planes.codes + unit.block * unit_bytes), unit.shift);
            Words high = low;
            if constexpr (bits == 3) {
                high = word_shift(load_words(planes.high + high_unit.block * unit_bytes), high_unit.shift);
            }
            for_each_byte([&]<int byte>(std::integral_constant<int, byte>) __attribute__((always_inline)) {
                const int64_t t = tq * 4 + byte;
                const int64_t at = by_channel ? t / v.codec->group * v.dim + dt * 16 : dt * 16 / channels * page_tokens + t;
                const Floats scale = by_channel ? load(scales.scale + at) : broadcast(scales.scale[at]);
                const Floats zero = by_channel ? load(scales.zero + at) : broadcast(scales.zero[at]);
                store(tile + (dt * page_tokens + t) * 16, decode(codes_of<bits, 0, 0, byte>(low, high), middle, scale, zero));
            });
        }
    }
}

KVC_INLINE Floats load_half(const std::byte* p, Element element) { return element == Element::bf16 ? load_bf16(p) : load_f16(p); }

// Rows [tokens][dim] of 16 bits to a key tile; lanes beyond the last token are 0.
inline void expand_key_rows(const std::byte* rows, Element element, int64_t tokens, int64_t dim, float* tile) {
    memset(tile, 0, size_t(round_up(tokens, 16) * dim) * sizeof *tile);
    for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t d = 0; d < dim; d += 16) {
            float row[16];
            store(row, load_half(rows + 2 * (t * dim + d), element));
            for (int64_t i = 0; i < 16; ++i) {
                tile[(t / 16 * dim + d + i) * 16 + t % 16] = row[i];
            }
        }
    }
}

inline void expand_keys(const PartView& k, float* tile) {
    if (k.coded) {
        return with_bits(k.codec->type, [&]<int bits>(std::integral_constant<int, bits>) { expand_key_codes<bits>(k, tile); });
    }
    for (int64_t i = 0; i < page_tokens * k.dim; i += 16) {
        store(tile + i, load_half(k.plane + 2 * i, k.element));
    }
}

inline void expand_values(const PartView& v, float* tile) {
    if (v.coded) {
        return with_bits(v.codec->type, [&]<int bits>(std::integral_constant<int, bits>) { expand_value_codes<bits>(v, tile); });
    }
    for (int64_t t = 0; t < v.capacity; ++t) {
        for (int64_t d = 0; d < v.dim; d += 16) {
            store(tile + (d * page_tokens + t * 16), load_half(v.plane + 2 * (t * v.dim + d), v.element));
        }
    }
}

}  // namespace
}  // namespace kvc::simd

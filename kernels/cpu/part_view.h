// Keys or values of one page as the loops see them.
#pragma once
#include "core/base/half.h"
#include "kernels/cpu/code_dot.h"
#include "kernels/cpu/float_dot.h"

namespace kvc::simd {
namespace {

// One part of one record. Coded: planes of codes and their metadata. Otherwise numbers at `plane`: keys as [token block of 16][dim][16]
// up to `capacity` tokens, values as [token][dim].
struct PartView {
    const Codec* codec;
    const PartLayout* layout;
    const std::byte* record;
    const std::byte* plane;
    int64_t dim;
    int64_t capacity;
    int64_t ahead;  // bytes from here to the same place of the page that comes next, to prefetch it
    bool coded;
    Element element;  // of a part that is not coded
};

KVC_INLINE CodePlanes code_planes(const PartView& part) {
    return {part.record + part.layout->codes, part.record + part.layout->high_plane, part.dim, part.ahead};
}

struct CodeGrid {
    int32_t whole;   // value = scale * (code - whole - fraction) + zero
    float fraction;  // 0, or .5 where 0 lies between two codes
};

// The grid's origin. With a zero point the middle of the codes is as good as 0, and rounding errors of weights count half.
KVC_INLINE CodeGrid grid_of(const Codec& codec) {
    if (!codec.symmetric) {
        return {1 << (bits_of(codec.type) - 1), 0.0f};
    }
    const float middle = middle_of(codec);
    const auto whole = int32_t(middle);
    return {whole, middle - float(whole)};
}

// Scales of the channels of one tile of a channel-axis part, and what the code `origin` of each stands for, to f32.
inline void load_channel_scales(const PartView& part, int64_t tile, int32_t origin, float* scale, float* zero) {
    const std::byte* meta = part.record + part.layout->meta;
    const Floats code = broadcast(float(origin));
    if (part.codec->m8) {
        const auto* numbers = reinterpret_cast<const uint8_t*>(meta) + tile * part.dim;
        const uint8_t* points = numbers + page_tokens / part.codec->group * part.dim;
        uint16_t pair[2];
        memcpy(pair, part.record + part.layout->super + 4 * tile, sizeof pair);
        const Floats scale_unit = broadcast(f32_from_f16(pair[0])), zero_unit = broadcast(f32_from_f16(pair[1]));
        for (int64_t c = 0; c < part.dim; c += 16) {
            const Floats s = mul(load_u8(numbers + c), scale_unit);
            store(scale + c, s);
            store(zero + c, fma(s, code, mul(load_s8(points + c), zero_unit)));
        }
        return;
    }
    const std::byte* scales = meta + 2 * tile * part.dim;
    const std::byte* zeros = scales + 2 * (page_tokens / part.codec->group) * part.dim;
    for (int64_t c = 0; c < part.dim; c += 16) {
        const Floats s = load_f16(scales + 2 * c);
        store(scale + c, s);
        store(zero + c, part.codec->symmetric ? broadcast(0.0f) : fma(s, code, load_f16(zeros + 2 * c)));
    }
}

// Of 16 tokens and channel group g of a token-axis part: the scales, and what the code `origin` stands for.
struct TokenScales {
    Floats scale, zero;
};
KVC_INLINE TokenScales load_token_scales(const PartView& part, int64_t group, int64_t token, int32_t origin) {
    const std::byte* scales = part.record + part.layout->meta + 2 * (group * page_tokens + token);
    const Floats scale = load_f16(scales);
    if (part.codec->symmetric) {
        return {scale, broadcast(0.0f)};
    }
    const int64_t groups = part.codec->group ? part.dim / part.codec->group : 1;
    return {scale, fma(scale, broadcast(float(origin)), load_f16(scales + 2 * groups * page_tokens))};
}

// Channels that share one scale of a token-axis part.
KVC_INLINE int64_t channels_per_scale(const PartView& part) { return part.codec->group ? part.codec->group : part.dim; }

}  // namespace
}  // namespace kvc::simd

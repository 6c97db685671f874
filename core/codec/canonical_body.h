// Coding and decoding of one part of a page, and the rotation: docs/FORMATS.md in code.
// Not a header to use: canonical.cpp and the CPU kernel targets include it, each compiling its own copy for its instruction set.
// The copies agree bit for bit, because every sum has a fixed tree, nothing is contracted, and rounding is IEEE's.
#pragma once
#include <bit>
#include <cmath>

#include "core/base/half.h"
#include "core/codec/canonical.h"

namespace kvc {
namespace {

constexpr int lanes = 8;  // of every sum: element i goes to lane i % 8, then the lanes are folded 4, 2, 1

inline float fold(const float* lane) {
    const float a = lane[0] + lane[4], b = lane[1] + lane[5], c = lane[2] + lane[6], d = lane[3] + lane[7];
    return (a + c) + (b + d);
}

// Adding 2^23 leaves no bits behind the point, so the addition rounds half to even, on any vector unit.
inline float clamp_code(float v, float last) {
    v = v > 0.0f ? v : 0.0f;
    return v < last ? v : last;
}
inline uint8_t round_code(float v, float last) { return uint8_t(std::bit_cast<uint32_t>(clamp_code(v, last) + 0x1p23f)); }
inline float round_level(float v, float last) { return (clamp_code(v, last) + 0x1p23f) - 0x1p23f; }
inline float round_signed(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }  // |v| < 2^22

// A stored scale is never 0, so that no division needs a test; the smallest fp16 number stands for it.
inline uint16_t stored_scale(float s) {
    const uint16_t bits = f16_from_f32(s < f16_max ? s : f16_max);
    return bits > 0 ? bits : uint16_t{1};
}

// The grid of one codec: codes 0 .. last.
struct Grid {
    explicit Grid(const Codec& codec)
        : last(float((1 << bits_of(codec.type)) - 1)),
          span(codec.symmetric ? float((1 << (bits_of(codec.type) - 1)) - 1) : last),
          middle(middle_of(codec)),
          clip(codec.clip) {}

    float last;
    float span;    // steps between the zero point and the largest number
    float middle;  // the code of 0, if there is no zero point
    float clip;
};

// ---- channel axis: one scale for `tokens` tokens of each channel ----

struct ChannelScales {
    float step[dim_limit], zero[dim_limit];  // code = (x - zero) / step
};

inline void channel_range(const float* __restrict x, int tokens, int dim, float* __restrict low, float* __restrict high) {
    for (int c = 0; c < dim; ++c) {
        low[c] = high[c] = x[c];
    }
    for (int t = 1; t < tokens; ++t) {
        for (int c = 0; c < dim; ++c) {
            const float v = x[t * dim + c];
            low[c] = v < low[c] ? v : low[c];
            high[c] = v > high[c] ? v : high[c];
        }
    }
}

// The scale and zero point that the numbers ask for, before they are rounded to what is stored.
inline void wanted_range(const Grid& grid, bool symmetric, float low, float high, float* step, float* zero) {
    if (symmetric) {
        const float largest = high > -low ? high : -low;
        *step = (largest + 0.0f) * grid.clip / grid.span;  // a range of zeros of either sign gives +0
        *zero = 0.0f;
        return;
    }
    if (grid.clip < 1.0f) {
        const float center = (low + high) * 0.5f, half = (high - low) * 0.5f * grid.clip;
        low = center - half;
        high = center + half;
    }
    *step = (high - low + 0.0f) / grid.span;
    *zero = low + 0.0f;  // -0 becomes +0: one number, one code
}

inline void store_f16(int dim, ChannelScales* s, uint16_t* __restrict scales, uint16_t* __restrict zeros) {
    for (int c = 0; c < dim; ++c) {
        scales[c] = stored_scale(s->step[c]);
        zeros[c] = f16_from_f32(s->zero[c]);
        s->step[c] = f32_from_f16(scales[c]);
        s->zero[c] = f32_from_f16(zeros[c]);
    }
}

// 8-bit multiples of one fp16 pair for the whole tile. A scale is rounded up unless it exceeds the multiple below by a quarter or
// less: a scale too small clips, one too large only coarsens.
inline void store_m8(int dim, float* __restrict step, float* __restrict zero, uint16_t* __restrict scales, uint16_t* __restrict zeros,
                     uint16_t* super_scale, uint16_t* super_zero) {
    float step_max = 0.0f, zero_max = 0.0f;
    for (int c = 0; c < dim; ++c) {
        const float size = std::fabs(zero[c]);
        step_max = step[c] > step_max ? step[c] : step_max;
        zero_max = size > zero_max ? size : zero_max;
    }
    *super_scale = stored_scale(step_max / 255.0f);
    *super_zero = stored_scale(zero_max / 127.0f);
    const float scale_unit = f32_from_f16(*super_scale), zero_unit = f32_from_f16(*super_zero);
    for (int c = 0; c < dim; ++c) {
        const float wanted = step[c] / scale_unit - 0.25f;
        const int whole = int(wanted);
        int multiple = whole + (float(whole) < wanted ? 1 : 0);
        multiple = multiple < 1 ? 1 : multiple > 255 ? 255 : multiple;
        float point = round_signed(zero[c] / zero_unit);
        point = point < -127.0f ? -127.0f : point > 127.0f ? 127.0f : point;
        scales[c] = uint16_t(multiple);
        zeros[c] = uint16_t(int(point) & 0xff);
        step[c] = float(multiple) * scale_unit;
        zero[c] = point * zero_unit;
    }
}

inline void code_channels(const float* __restrict x, int tokens, int dim, const ChannelScales& s, float middle, float last,
                          uint8_t* __restrict codes) {
    for (int t = 0; t < tokens; ++t) {
        for (int c = 0; c < dim; ++c) {
            codes[t * dim + c] = round_code((x[t * dim + c] - s.zero[c]) / s.step[c] + middle, last);
        }
    }
}

inline void encode_channel_axis(const Codec& codec, int dim, const float* x, CanonicalPart* out) {
    const Grid grid(codec);
    ChannelScales s;
    float low[dim_limit], high[dim_limit];
    for (int tile = 0; tile < page_tokens / codec.group; ++tile) {
        const float* rows = x + tile * codec.group * dim;
        uint16_t* scales = out->scales + tile * dim;
        uint16_t* zeros = out->zeros + tile * dim;
        channel_range(rows, codec.group, dim, low, high);
        for (int c = 0; c < dim; ++c) {
            wanted_range(grid, codec.symmetric, low[c], high[c], &s.step[c], &s.zero[c]);
        }
        if (codec.m8) {
            store_m8(dim, s.step, s.zero, scales, zeros, out->super_scale + tile, out->super_zero + tile);
        } else {
            store_f16(dim, &s, scales, zeros);
        }
        code_channels(rows, codec.group, dim, s, grid.middle, grid.last, out->codes + tile * codec.group * dim);
    }
}

// ---- token axis: one scale for `n` channels of a token ----

inline void token_range(const float* x, int n, float* low, float* high) {
    float least[lanes], most[lanes];
    for (int j = 0; j < lanes; ++j) {
        least[j] = most[j] = x[j];
    }
    for (int i = lanes; i < n; i += lanes) {
        for (int j = 0; j < lanes; ++j) {
            least[j] = x[i + j] < least[j] ? x[i + j] : least[j];
            most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
        }
    }
    for (int j = 1; j < lanes; ++j) {
        least[0] = least[j] < least[0] ? least[j] : least[0];
        most[0] = most[j] > most[0] ? most[j] : most[0];
    }
    *low = least[0];
    *high = most[0];
}

inline void code_group(const float* __restrict x, int n, float zero, float step, float middle, float last, uint8_t* __restrict codes) {
    for (int i = 0; i < n; ++i) {
        codes[i] = round_code((x[i] - zero) / step + middle, last);
    }
}

inline float root_mean_square(const float* x, int n) {
    float lane[lanes] = {};
    for (int i = 0; i < n; i += lanes) {
        for (int j = 0; j < lanes; ++j) {
            lane[j] += x[i + j] * x[i + j];
        }
    }
    return std::sqrt(fold(lane) / float(n));
}

// The scale that fits best, in the sense of least squares, to the levels which the scale s gives.
inline float refit(const float* x, int n, float s, const Grid& grid) {
    float product[lanes] = {}, square[lanes] = {};
    const float inverse = 1.0f / s;
    for (int i = 0; i < n; i += lanes) {
        for (int j = 0; j < lanes; ++j) {
            const float level = round_level(x[i + j] * inverse + grid.middle, grid.last) - grid.middle;
            product[j] += x[i + j] * level;
            square[j] += level * level;
        }
    }
    const float best = fold(product) / fold(square);
    return best > f16_least ? best : f16_least;
}

inline float gaussian_step(CodeType type) {
    switch (type) {
#define KVC_CODE_TYPE(name, bits, high, step) \
    case CodeType::name:                      \
        return step;
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
    default:
        return 0.0f;
    }
}

inline uint16_t least_squares_scale(const float* x, int n, const Codec& codec, const Grid& grid) {
    const float rms = root_mean_square(x, n);
    if (rms == 0.0f) {
        return 0;
    }
    float s = rms * gaussian_step(codec.type);
    for (int round = 0; round < 3; ++round) {
        s = refit(x, n, s, grid);
    }
    return stored_scale(s);
}

inline void encode_token_axis(const Codec& codec, int dim, const float* x, CanonicalPart* out) {
    const Grid grid(codec);
    const int n = codec.group ? codec.group : dim;
    for (int g = 0; g < dim / n; ++g) {
        for (int t = 0; t < page_tokens; ++t) {
            const float* group = x + t * dim + g * n;
            uint16_t* scale = out->scales + g * page_tokens + t;
            uint16_t* zero = out->zeros + g * page_tokens + t;
            *zero = 0;
            if (codec.fit == Fit::least_squares) {
                *scale = least_squares_scale(group, n, codec, grid);
            } else {
                float low, high, step, point;
                token_range(group, n, &low, &high);
                wanted_range(grid, codec.symmetric, low, high, &step, &point);
                *scale = stored_scale(step);
                *zero = f16_from_f32(point);
            }
            // All zeros under least squares: the scale is 0, and any divisor gives the same codes.
            const float step = *scale ? f32_from_f16(*scale) : 1.0f;
            code_group(group, n, f32_from_f16(*zero), step, grid.middle, grid.last, out->codes + t * dim + g * n);
        }
    }
}

// ---- decoding ----

inline void decode_channel_axis(const Codec& codec, int dim, const CanonicalPart& part, float* __restrict x) {
    const float middle = middle_of(codec);
    float step[dim_limit], zero[dim_limit];
    for (int tile = 0; tile < page_tokens / codec.group; ++tile) {
        const uint16_t* scales = part.scales + tile * dim;
        const uint16_t* zeros = part.zeros + tile * dim;
        const float scale_unit = f32_from_f16(part.super_scale[tile]), zero_unit = f32_from_f16(part.super_zero[tile]);
        for (int c = 0; c < dim; ++c) {
            step[c] = codec.m8 ? float(scales[c]) * scale_unit : f32_from_f16(scales[c]);
            zero[c] = codec.symmetric ? 0.0f : codec.m8 ? float(int8_t(zeros[c])) * zero_unit : f32_from_f16(zeros[c]);
        }
        for (int t = tile * codec.group; t < (tile + 1) * codec.group; ++t) {
            for (int c = 0; c < dim; ++c) {
                x[t * dim + c] = (float(part.codes[t * dim + c]) - middle) * step[c] + zero[c];
            }
        }
    }
}

inline void decode_token_axis(const Codec& codec, int dim, const CanonicalPart& part, float* __restrict x) {
    const float middle = middle_of(codec);
    const int n = codec.group ? codec.group : dim;
    for (int t = 0; t < page_tokens; ++t) {
        for (int g = 0; g < dim / n; ++g) {
            const float step = f32_from_f16(part.scales[g * page_tokens + t]);
            const float zero = codec.symmetric ? 0.0f : f32_from_f16(part.zeros[g * page_tokens + t]);
            for (int i = g * n; i < (g + 1) * n; ++i) {
                x[t * dim + i] = (float(part.codes[t * dim + i]) - middle) * step + zero;
            }
        }
    }
}

inline void encode_part_body(const Codec& codec, int dim, const float* x, CanonicalPart* out) {
    if (codec.axis == Axis::channel) {
        encode_channel_axis(codec, dim, x, out);
    } else {
        encode_token_axis(codec, dim, x, out);
    }
}

inline void decode_part_body(const Codec& codec, int dim, const CanonicalPart& part, float* x) {
    if (codec.axis == Axis::channel) {
        decode_channel_axis(codec, dim, part, x);
    } else {
        decode_token_axis(codec, dim, part, x);
    }
}

// ---- rotation ----

// 1 / sqrt(block), rounded to f32 where it is no power of two.
template <int block>
constexpr float rotation_norm = block == 16    ? 0x1p-2f
                                : block == 32  ? 0x1.6a09e6p-3f
                                : block == 64  ? 0x1p-3f
                                : block == 128 ? 0x1.6a09e6p-4f
                                               : 0x1p-4f;

template <int block>
void rotate_block(float* x) {
    for (int distance = 1; distance < block; distance *= 2) {
        for (int start = 0; start < block; start += 2 * distance) {
            for (int i = start; i < start + distance; ++i) {
                const float a = x[i], b = x[i + distance];
                x[i] = a + b;
                x[i + distance] = a - b;
            }
        }
    }
    for (int i = 0; i < block; ++i) {
        x[i] *= rotation_norm<block>;
    }
}

inline void rotate_row(float* x, int dim) {
    const int block = dim & -dim;
    for (int start = 0; start < dim; start += block) {
        switch (block) {
        case 16:
            rotate_block<16>(x + start);
            break;
        case 32:
            rotate_block<32>(x + start);
            break;
        case 64:
            rotate_block<64>(x + start);
            break;
        case 128:
            rotate_block<128>(x + start);
            break;
        default:
            rotate_block<256>(x + start);
            break;
        }
    }
}

}  // namespace
}  // namespace kvc

// A full 16-bit record into a code record: the codes and bytes of encode_part, sixteen lanes at a time.
//
// Keys lie as [token block][channel][16 tokens], values as [token][channel block][16 channels]: lanes, and steps that sums run over.
// One scale serves either one lane and several steps (keys by token, values by channel) or one step and several lanes (keys by channel,
// values by token). Every operation is the scalar truth's, in its order, so the bits are the same.
#pragma once
#include "kernels/cpu/page_body.h"
#include "kernels/cpu/part_view.h"
#include "kernels/cpu/units.h"

namespace kvc::simd {
namespace {

// Numbers of one part of a window record.
template <bool keys>
struct WindowPart {
    const std::byte* numbers;
    int64_t dim;
    bool bf16;

    int64_t blocks() const { return keys ? page_tokens / 16 : dim / 16; }
    int64_t steps() const { return keys ? dim : page_tokens; }
    KVC_INLINE Floats load(int64_t block, int64_t step) const {
        const std::byte* p = numbers + 32 * (keys ? block * dim + step : step * (dim / 16) + block);
        return bf16 ? load_bf16(p) : load_f16(p);
    }
};

// Which scale belongs to which numbers, in the canonical order: channel axis [tile][dim], token axis [group][64].
template <bool keys>
struct ScaleMap {
    bool by_channel;
    int64_t dim, group;

    bool by_lane() const { return keys != by_channel; }
    // Lane 0 of the block, if by lane; the step, otherwise.
    KVC_INLINE int64_t at(int64_t block, int64_t step) const {
        const int64_t token = keys ? block * 16 : step, channel = keys ? step : block * 16;
        return by_channel ? token / group * dim + channel : channel / group * page_tokens + token;
    }
};

struct GroupScales {
    float step[page_tokens * dim_limit / 16], zero[page_tokens * dim_limit / 16];
};

// ---- ranges ----

template <bool keys>
void range_by_lane(const WindowPart<keys>& window, const ScaleMap<keys>& map, float* low, float* high) {
    const int64_t run = map.group;
    for (int64_t block = 0; block < window.blocks(); ++block) {
        for (int64_t first = 0; first < window.steps(); first += run) {
            Floats least = window.load(block, first), most = least;
            for (int64_t step = first + 1; step < first + run; ++step) {
                const Floats x = window.load(block, step);
                least = min(least, x);
                most = max(most, x);
            }
            store(low + map.at(block, first), least);
            store(high + map.at(block, first), most);
        }
    }
}

template <bool keys>
void range_by_step(const WindowPart<keys>& window, const ScaleMap<keys>& map, float* low, float* high) {
    const int64_t run = map.group / 16;
    for (int64_t first = 0; first < window.blocks(); first += run) {
        for (int64_t step = 0; step < window.steps(); ++step) {
            Floats least = window.load(first, step), most = least;
            for (int64_t block = first + 1; block < first + run; ++block) {
                const Floats x = window.load(block, step);
                least = min(least, x);
                most = max(most, x);
            }
            low[map.at(first, step)] = min_of_lanes(least);
            high[map.at(first, step)] = max_of_lanes(most);
        }
    }
}

// ---- least squares, values by token ----

// Four tokens as two pairs: lanes 0 to 7 hold eight channels of the first of a pair, lanes 8 to 15 those of the second.
struct FourTokens {
    Floats x[2][dim_limit / 8];
    int64_t n;  // of eight channels
};

KVC_INLINE void load_four(const WindowPart<false>& window, int64_t token, int64_t channel, int64_t channels, FourTokens* out) {
    out->n = channels / 8;
    for (int pair = 0; pair < 2; ++pair) {
        const std::byte* p = window.numbers + 2 * ((token + 2 * pair) * window.dim + channel);
        for (int64_t i = 0; i < out->n; ++i) {
            out->x[pair][i] = load_f16_pair(p + 16 * i, p + 2 * window.dim + 16 * i);
        }
    }
}

KVC_INLINE Floats level_of(Floats x, Floats inverse, const Grid& grid) {
    const Floats v = add(mul(x, inverse), broadcast(grid.middle));
    const Floats code = min(max(v, broadcast(0.0f)), broadcast(grid.last));
    return sub(to_floats(round_to_ints(code)), broadcast(grid.middle));
}

// The scale that fits best, in the sense of least squares, to the levels which the scales s give.
inline void refit_four(const FourTokens& tokens, const Grid& grid, float* s) {
    Floats inverse[2], product[2], square[2];
    for (int pair = 0; pair < 2; ++pair) {
        inverse[pair] = broadcast_pair(1.0f / s[2 * pair], 1.0f / s[2 * pair + 1]);
        product[pair] = square[pair] = broadcast(0.0f);
    }
    for (int64_t i = 0; i < tokens.n; ++i) {
#pragma GCC unroll 2
        for (int pair = 0; pair < 2; ++pair) {
            const Floats x = tokens.x[pair][i], level = level_of(x, inverse[pair], grid);
            product[pair] = add(product[pair], mul(x, level));
            square[pair] = add(square[pair], mul(level, level));
        }
    }
    for (int pair = 0; pair < 2; ++pair) {
        const Pair p = sum_of_halves(product[pair]), q = sum_of_halves(square[pair]);
        const float first = p.first / q.first, second = p.second / q.second;
        s[2 * pair] = first > f16_least ? first : f16_least;
        s[2 * pair + 1] = second > f16_least ? second : f16_least;
    }
}

// Scales of four tokens; 0 for a token of zeros.
inline void least_squares_four(const FourTokens& tokens, const Codec& codec, const Grid& grid, uint16_t* scales) {
    float rms[4], s[4];
    for (int pair = 0; pair < 2; ++pair) {
        Floats sum = broadcast(0.0f);
        for (int64_t i = 0; i < tokens.n; ++i) {
            sum = add(sum, mul(tokens.x[pair][i], tokens.x[pair][i]));
        }
        const Pair squares = sum_of_halves(sum);
        rms[2 * pair] = __builtin_sqrtf(squares.first / float(8 * tokens.n));
        rms[2 * pair + 1] = __builtin_sqrtf(squares.second / float(8 * tokens.n));
    }
    for (int t = 0; t < 4; ++t) {
        s[t] = rms[t] == 0.0f ? 1.0f : rms[t] * gaussian_step(codec.type);
    }
    for (int round = 0; round < 3; ++round) {
        refit_four(tokens, grid, s);
    }
    for (int t = 0; t < 4; ++t) {
        scales[t] = rms[t] == 0.0f ? uint16_t{0} : stored_scale(s[t]);
    }
}

inline void least_squares(const WindowPart<false>& window, const Codec& codec, const Grid& grid, int64_t channels, uint16_t* scales) {
    FourTokens tokens;
    for (int64_t g = 0; g < window.dim / channels; ++g) {
        for (int64_t t = 0; t < page_tokens; t += 4) {
            load_four(window, t, g * channels, channels, &tokens);
            least_squares_four(tokens, codec, grid, scales + g * page_tokens + t);
        }
    }
}

// ---- least squares, keys by token: lanes are tokens, channel i adds to sum i % 8 ----

KVC_INLINE Floats fold_sums(const Floats* sum) {
    const Floats a = add(sum[0], sum[4]), b = add(sum[1], sum[5]), c = add(sum[2], sum[6]), d = add(sum[3], sum[7]);
    return add(add(a, c), add(b, d));
}

inline Floats refit_lanes(const WindowPart<true>& window, int64_t block, int64_t first, int64_t channels, const Grid& grid, Floats s) {
    Floats product[lanes], square[lanes];
    for (int j = 0; j < lanes; ++j) {
        product[j] = square[j] = broadcast(0.0f);
    }
    const Floats inverse = div(broadcast(1.0f), s);
    for (int64_t c = 0; c < channels; ++c) {
        const Floats x = window.load(block, first + c), level = level_of(x, inverse, grid);
        product[c % lanes] = add(product[c % lanes], mul(x, level));
        square[c % lanes] = add(square[c % lanes], mul(level, level));
    }
    return max(div(fold_sums(product), fold_sums(square)), broadcast(f16_least));
}

inline void least_squares(const WindowPart<true>& window, const Codec& codec, const Grid& grid, int64_t channels, uint16_t* scales) {
    for (int64_t block = 0; block < window.blocks(); ++block) {
        for (int64_t first = 0; first < window.dim; first += channels) {
            Floats sum[lanes];
            for (int j = 0; j < lanes; ++j) {
                sum[j] = broadcast(0.0f);
            }
            for (int64_t c = 0; c < channels; ++c) {
                const Floats x = window.load(block, first + c);
                sum[c % lanes] = add(sum[c % lanes], mul(x, x));
            }
            float squares[16], s[16];
            store(squares, fold_sums(sum));
            for (int t = 0; t < 16; ++t) {
                s[t] = squares[t] > 0.0f ? __builtin_sqrtf(squares[t] / float(channels)) * gaussian_step(codec.type) : 1.0f;
            }
            Floats fitted = load(s);
            for (int round = 0; round < 3; ++round) {
                fitted = refit_lanes(window, block, first, channels, grid, fitted);
            }
            store(s, fitted);
            for (int t = 0; t < 16; ++t) {
                const bool zeros = __builtin_sqrtf(squares[t] / float(channels)) == 0.0f;
                scales[first / channels * page_tokens + block * 16 + t] = zeros ? uint16_t{0} : stored_scale(s[t]);
            }
        }
    }
}

// ---- stored scales ----

// 16-bit scales and zero points of `groups` groups; codes are computed from what is stored.
inline void store_half_scales(int64_t groups, GroupScales* s, uint16_t* __restrict scales, uint16_t* __restrict zeros) {
    for (int64_t i = 0; i < groups; i += 16) {
        const Floats step = min(load(s->step + i), broadcast(f16_max));
        simd::store_f16(scales + i, step);
        simd::store_f16(zeros + i, load(s->zero + i));
        for (int64_t j = i; j < i + 16; ++j) {
            scales[j] = uint16_t(scales[j] + (scales[j] == 0));  // stored scales are never 0
        }
        store(s->step + i, load_f16(scales + i));
        store(s->zero + i, load_f16(zeros + i));
    }
}

template <bool keys>
void fit_range(const WindowPart<keys>& window, const ScaleMap<keys>& map, const Codec& codec, const Grid& grid, GroupScales* s,
               CanonicalPart* part) {
    float low[page_tokens * dim_limit / 16], high[page_tokens * dim_limit / 16];
    if (map.by_lane()) {
        range_by_lane(window, map, low, high);
    } else {
        range_by_step(window, map, low, high);
    }
    const int64_t groups = group_count(codec, window.dim);
    for (int64_t i = 0; i < groups; ++i) {
        wanted_range(grid, codec.symmetric, low[i], high[i], &s->step[i], &s->zero[i]);
    }
    if (!codec.m8) {
        store_half_scales(groups, s, part->scales, part->zeros);
        return;
    }
    for (int64_t tile = 0; tile < page_tokens / codec.group; ++tile) {
        const int64_t at = tile * window.dim;
        store_m8(int(window.dim), s->step + at, s->zero + at, part->scales + at, part->zeros + at, part->super_scale + tile,
                 part->super_zero + tile);
    }
}

template <bool keys>
void fit_least_squares(const WindowPart<keys>& window, const ScaleMap<keys>& map, const Codec& codec, const Grid& grid, GroupScales* s,
                       CanonicalPart* part) {
    least_squares(window, codec, grid, map.group, part->scales);
    const int64_t groups = group_count(codec, window.dim);
    for (int64_t i = 0; i < groups; i += 16) {
        simd::store(s->step + i, load_f16(part->scales + i));
        simd::store(s->zero + i, broadcast(0.0f));
    }
    for (int64_t i = 0; i < groups; ++i) {
        s->step[i] = s->step[i] > 0.0f ? s->step[i] : 1.0f;  // a token of zeros has scale 0, and any divisor gives its codes
    }
}

// ---- codes ----

template <bool keys, bool by_lane>
void code_units(const WindowPart<keys>& window, const ScaleMap<keys>& map, const Grid& grid, const GroupScales& s, UnitBuffer* units) {
    const Floats middle = broadcast(grid.middle), zero = broadcast(0.0f), last = broadcast(grid.last);
    std::byte* unit = units->bytes;
    for (int64_t block = 0; block < window.blocks(); ++block) {
        for (int64_t first = 0; first < window.steps(); first += 4, unit += unit_bytes) {
            Ints code[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
                const int64_t at = map.at(block, first + j);
                const Floats point = by_lane ? simd::load(s.zero + at) : broadcast(s.zero[at]);
                const Floats step = by_lane ? simd::load(s.step + at) : broadcast(s.step[at]);
                const Floats v = add(div(sub(window.load(block, first + j), point), step), middle);
                code[j] = round_to_ints(min(max(v, zero), last));
            }
            store(unit, bytes_of(code[0], code[1], code[2], code[3]));
        }
    }
}

template <bool keys>
void quantize_lanes(const LayerFormat& f, const std::byte* window_record, std::byte* record) {
    const Codec& codec = keys ? f.codec.k : f.codec.v;
    const PartLayout& layout = keys ? f.k : f.v;
    const WindowPart<keys> window{window_record + (keys ? 0 : window_v_offset(f)), keys ? f.k_dim : f.v_dim, f.bf16_window};
    if (is_16_bit(codec.type)) {
        memcpy(record + layout.codes, window.numbers, size_t(layout.codes_bytes));
        return;
    }
    const bool by_channel = codec.axis == Axis::channel;
    const ScaleMap<keys> map{by_channel, window.dim, codec.group ? codec.group : window.dim};
    const Grid grid(codec);
    GroupScales scales;
    CanonicalPart part;
    if (codec.fit == Fit::least_squares) {
        fit_least_squares(window, map, codec, grid, &scales, &part);
    } else {
        fit_range(window, map, codec, grid, &scales, &part);
    }
    UnitBuffer units;
    if (map.by_lane()) {
        code_units<keys, true>(window, map, grid, scales, &units);
    } else {
        code_units<keys, false>(window, map, grid, scales, &units);
    }
    pack_units<keys>(codec.type, units, window.dim, layout, record);
    pack_meta(codec, layout, group_count(codec, window.dim), part, record);
}

inline void quantize_record(const QuantizeParams& params) {
    quantize_lanes<true>(*params.format, params.window, params.codes);
    quantize_lanes<false>(*params.format, params.window, params.codes);
    clear_padding(*params.format, params.codes);
}

}  // namespace
}  // namespace kvc::simd

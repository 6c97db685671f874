// Coding 64 tokens by one block: fp16 rows into codes and metadata in shared memory, and those into a record. Every operation and every
// sum is in the order of docs/FORMATS.md, so the bits are those of every other backend; for translation units without contraction of
// multiply and add (-fmad=false).
#pragma once
#include "kernels/cuda/layout.cuh"
#include "kernels/cuda/part_grid.h"

namespace kvc::cuda {

constexpr int value_lanes = 8;  // threads that share a token's values, and lanes of a sum
constexpr int value_groups_max = dim_limit / value_group;

struct PageShared {
    uint8_t codes[page_tokens][dim_limit];
    uint16_t scale[2][dim_limit], zero[2][dim_limit];  // as stored, of keys
    float step[dim_limit], point[dim_limit];           // of keys: of one group, until all of it is seen its lowest and highest numbers
    uint16_t super[2][2];
    uint16_t value_scale[value_groups_max][page_tokens], value_zero[value_groups_max][page_tokens];
    float most[2][warps];
};

KVC_DEVICE float number_at(const std::byte* rows, int dim, int token, int channel) {
    return simt::half_to_float(reinterpret_cast<const uint16_t*>(rows)[token * dim + channel]);
}

// Adding 2^23 leaves no bits behind the point, so the addition rounds half to even.
KVC_DEVICE float clamp_code(float v, float last) {
    v = v > 0.0f ? v : 0.0f;
    return v < last ? v : last;
}
KVC_DEVICE uint8_t round_code(float v, float last) { return uint8_t(simt::bits_of_float(clamp_code(v, last) + 0x1p23f)); }
KVC_DEVICE float round_level(float v, float last) { return (clamp_code(v, last) + 0x1p23f) - 0x1p23f; }
KVC_DEVICE float round_signed(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

KVC_DEVICE uint16_t stored_scale(float s) {
    const uint16_t bits = simt::float_to_half(s < 65504.0f ? s : 65504.0f);
    return bits > 0 ? bits : uint16_t(1);
}

struct Range {
    float step, point;  // the scale and zero point that numbers ask for, before they are rounded to what is stored
};
KVC_DEVICE Range wanted_range(const PartGrid& grid, float low, float high) {
    if (grid.symmetric) {
        const float largest = high > -low ? high : -low;
        return {(largest + 0.0f) * grid.clip / grid.span, 0.0f};
    }
    if (grid.clip < 1.0f) {
        const float center = (low + high) * 0.5f, half = (high - low) * 0.5f * grid.clip;
        low = center - half;
        high = center + half;
    }
    return {(high - low + 0.0f) / grid.span, low + 0.0f};
}

// ---- keys ----

// The largest of all threads' numbers, which are not negative.
KVC_DEVICE float largest_of_block(float x, float (&shared)[warps]) {
    for (int distance = 16; distance > 0; distance /= 2) {
        x = simt::maximum(x, simt::shuffle_xor(x, distance));
    }
    if (simt::lane() == 0) {
        shared[simt::warp()] = x;
    }
    simt::sync_block();
    float most = shared[0];
    for (int w = 1; w < warps; w++) {
        most = simt::maximum(most, shared[w]);
    }
    return most;
}

// The extremes of each channel of a group, as far as it has been seen: of n more tokens.
KVC_DEVICE void widen_ranges(const PartGrid& grid, const std::byte* rows, int n, bool first, PageShared* s) {
    for (int c = simt::thread(); c < grid.dim; c += threads) {
        float low = number_at(rows, grid.dim, 0, c), high = low;
        if (!first) {
            low = s->step[c] < low ? s->step[c] : low;
            high = s->point[c] > high ? s->point[c] : high;
        }
        for (int t = 1; t < n; t++) {
            const float v = number_at(rows, grid.dim, t, c);
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
        s->step[c] = low;
        s->point[c] = high;
    }
}

// Each channel's wanted step and zero point from its extremes; returns the largest of both.
KVC_DEVICE void want_ranges(const PartGrid& grid, float* step_most, float* point_most, PageShared* s) {
    *step_most = *point_most = 0.0f;
    for (int c = simt::thread(); c < grid.dim; c += threads) {
        const Range range = wanted_range(grid, s->step[c], s->point[c]);
        s->step[c] = range.step;
        s->point[c] = range.point;
        *step_most = simt::maximum(*step_most, range.step);
        *point_most = simt::maximum(*point_most, range.point < 0 ? -range.point : range.point);
    }
}

// Rounds each channel's step and zero point to multiples of the group's pair, and keeps what they then are.
KVC_DEVICE void round_to_pair(int dim, int group, float scale_unit, float zero_unit, PageShared* s) {
    for (int c = simt::thread(); c < dim; c += threads) {
        const float wanted = s->step[c] / scale_unit - 0.25f;
        const int whole = int(wanted);
        int multiple = whole + (float(whole) < wanted ? 1 : 0);
        multiple = multiple < 1 ? 1 : multiple > 255 ? 255 : multiple;
        float point = round_signed(s->point[c] / zero_unit);
        point = point < -127.0f ? -127.0f : point > 127.0f ? 127.0f : point;
        s->scale[group][c] = uint16_t(multiple);
        s->zero[group][c] = uint16_t(int(point) + zero_point_bias);
        s->step[c] = float(multiple) * scale_unit;
        s->point[c] = point * zero_unit;
    }
}

KVC_DEVICE void round_to_halves(int dim, int group, PageShared* s) {
    for (int c = simt::thread(); c < dim; c += threads) {
        s->scale[group][c] = stored_scale(s->step[c]);
        s->zero[group][c] = simt::float_to_half(s->point[c]);
        s->step[c] = simt::half_to_float(s->scale[group][c]);
        s->point[c] = simt::half_to_float(s->zero[group][c]);
    }
}

// The stored scales and zero points of a group whose extremes are known; each thread then knows the steps of its own channels.
KVC_DEVICE void settle_ranges(const PartGrid& grid, bool halves, int group, PageShared* s) {
    float step_most, point_most;
    want_ranges(grid, &step_most, &point_most, s);
    if (halves) {
        round_to_halves(grid.dim, group, s);
    } else {
        step_most = largest_of_block(step_most, s->most[0]);
        point_most = largest_of_block(point_most, s->most[1]);
        const uint16_t super_scale = stored_scale(step_most / 255.0f), super_zero = stored_scale(point_most / 127.0f);
        if (simt::thread() == 0) {
            s->super[group][0] = super_scale;
            s->super[group][1] = super_zero;
        }
        round_to_pair(grid.dim, group, simt::half_to_float(super_scale), simt::half_to_float(super_zero), s);
    }
}

// The tokens first .. first + n - 1 of the page, all of the group whose ranges are settled; rows [n][dim] in fp16.
KVC_DEVICE void code_keys(const PartGrid& grid, const std::byte* rows, int first, int n, PageShared* s) {
    for (int c = simt::thread(); c < grid.dim; c += threads) {
        for (int t = 0; t < n; t++) {
            s->codes[first + t][c] = round_code((number_at(rows, grid.dim, t, c) - s->point[c]) / s->step[c] + grid.middle, grid.last);
        }
    }
}

KVC_DEVICE void encode_keys(const PartGrid& grid, const Metadata& meta, const std::byte* keys, PageShared* s) {
    const int n = page_tokens / meta.k_groups;
    for (int group = 0; group < meta.k_groups; group++) {
        const std::byte* const rows = keys + group * n * grid.dim * 2;
        widen_ranges(grid, rows, n, true, s);
        settle_ranges(grid, meta.k_halves, group, s);
        code_keys(grid, rows, group * n, n, s);
        simt::sync_block();  // before the largest numbers of the next group overwrite those of this one
    }
}

// ---- values: eight threads a token, thread j takes numbers j, j + 8, .. ----

// One token's numbers of one group.
struct ValueGroup {
    const std::byte* values;
    int dim, row, first, n;

    KVC_DEVICE float at(int i) const { return number_at(values, dim, row, first + i); }
};

// The sum of eight lanes in the order of docs/FORMATS.md: 4, 2, then 1 apart.
KVC_DEVICE float fold_lanes(float x) {
    for (int distance = value_lanes / 2; distance > 0; distance /= 2) {
        x += simt::shuffle_xor(x, distance);
    }
    return x;
}

KVC_DEVICE Range range_of_group(const PartGrid& grid, const ValueGroup& group, int lane) {
    float low = group.at(lane), high = low;
    for (int i = lane + value_lanes; i < group.n; i += value_lanes) {
        const float x = group.at(i);
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    for (int distance = value_lanes / 2; distance > 0; distance /= 2) {
        const float other_low = simt::shuffle_xor(low, distance), other_high = simt::shuffle_xor(high, distance);
        low = other_low < low ? other_low : low;
        high = other_high > high ? other_high : high;
    }
    return wanted_range(grid, low, high);
}

// The scale that fits best, in the sense of least squares, to the levels which the scale s gives.
KVC_DEVICE float refit(const PartGrid& grid, const ValueGroup& group, int lane, float s) {
    float product = 0.0f, square = 0.0f;
    const float inverse = 1.0f / s;
    for (int i = lane; i < group.n; i += value_lanes) {
        const float x = group.at(i), level = round_level(x * inverse + grid.middle, grid.last) - grid.middle;
        product += x * level;
        square += level * level;
    }
    const float best = fold_lanes(product) / fold_lanes(square);
    return best > 0x1p-24f ? best : 0x1p-24f;
}

KVC_DEVICE uint16_t least_squares_scale(const PartGrid& grid, const ValueGroup& group, int lane) {
    float square = 0.0f;
    for (int i = lane; i < group.n; i += value_lanes) {
        square += group.at(i) * group.at(i);
    }
    const float rms = simt::square_root(fold_lanes(square) / float(group.n));
    // All zeros have scale 0. They are fitted all the same, because lanes of a warp have different tokens but fold together.
    float s = rms * grid.first_step;
    for (int round = 0; round < 3; round++) {
        s = refit(grid, group, lane, rms == 0.0f ? 1.0f : s);
    }
    return rms == 0.0f ? uint16_t(0) : stored_scale(s);
}

// Of `rows` tokens from `first` on, whose fp16 numbers lie at `values`.
KVC_DEVICE void encode_values(const PartGrid& grid, const std::byte* values, int first, int rows, PageShared* s) {
    const int lane = simt::thread() % value_lanes, n = grid.dim / grid.groups;
    for (int row = simt::thread() / value_lanes; row < rows; row += threads / value_lanes) {
        const int token = first + row;
        for (int g = 0; g < grid.groups; g++) {
            const ValueGroup group{values, grid.dim, row, g * n, n};
            uint16_t scale, zero = 0;
            if (grid.least_squares) {
                scale = least_squares_scale(grid, group, lane);
            } else {
                const Range range = range_of_group(grid, group, lane);
                scale = stored_scale(range.step);
                zero = simt::float_to_half(range.point);
            }
            const float step = scale ? simt::half_to_float(scale) : 1.0f, point = simt::half_to_float(zero);
            for (int i = lane; i < n; i += value_lanes) {
                s->codes[token][g * n + i] = round_code((group.at(i) - point) / step + grid.middle, grid.last);
            }
            if (lane == 0) {
                s->value_scale[g][token] = scale;
                s->value_zero[g][token] = zero;
            }
        }
    }
}

// ---- into fragment order ----

// A thread gathers the words of one lane of one fragment.
template <int bits, bool keys>
KVC_DEVICE void write_codes(const PageShared& s, int dim, int widest, std::byte* out) {
    for (int i = simt::thread(); i < dim / 16 * 32; i += threads) {
        const int fragment = i / 32, lane = i % 32, row = lane / 4, quad = lane % 4;
        uint32_t words[bits] = {};
        KVC_UNROLL
        for (int j = 0; j < 32; j++) {
            const int token_class = j / 4, member = j / 2 % 2, element = j % 2;
            const int token = 8 * token_class + (keys ? row : 2 * quad + element);
            const int channel =
                keys ? key_channel(dim, fragment, quad, 2 * member + element) : value_channel(dim, fragment, row, member, widest);
            const uint32_t code = s.codes[token][channel];
            const CodePlace place = code_place(bits, token_class, member, element);
            KVC_UNROLL
            for (int w = 0; w < bits; w++) {
                words[w] |= place.spread ? (code >> w & 1) << place.bit : place.word == w ? code << place.bit : 0;
            }
        }
        KVC_UNROLL
        for (int w = 0; w < bits; w++) {
            *reinterpret_cast<uint32_t*>(out + code_offset(bits, dim, fragment, lane, w)) = words[w];
        }
    }
}

template <bool keys>
KVC_DEVICE void write_codes_of(const PartGrid& grid, const PageShared& s, int widest, std::byte* out) {
    switch (grid.bits) {
    case 8:
        return write_codes<8, keys>(s, grid.dim, widest, out);
    case 4:
        return write_codes<4, keys>(s, grid.dim, widest, out);
    case 3:
        return write_codes<3, keys>(s, grid.dim, widest, out);
    default:
        return write_codes<2, keys>(s, grid.dim, widest, out);
    }
}

KVC_DEVICE void write_key_metadata(const PageShared& s, int dim, const Metadata& meta, std::byte* out, std::byte* super) {
    for (int i = simt::thread(); i < meta.k_groups * dim; i += threads) {
        const int group = i / dim, k = i % dim / 16, quad = i / 4 % 4, e = i % 4, channel = key_channel(dim, k, quad, e);
        std::byte* const scale = out + key_meta_offset(meta, k, quad, group, false, e);
        std::byte* const zero = out + key_meta_offset(meta, k, quad, group, true, e);
        if (meta.k_halves) {
            *reinterpret_cast<uint16_t*>(scale) = s.scale[group][channel];
            *reinterpret_cast<uint16_t*>(zero) = s.zero[group][channel];
        } else {
            *scale = std::byte(s.scale[group][channel]);
            *zero = std::byte(s.zero[group][channel]);
        }
    }
    if (simt::thread() < meta.k_groups && !meta.k_halves) {
        const int group = simt::thread();
        *reinterpret_cast<uint16_t*>(super + super_offset(group, false)) = s.super[group][0];
        *reinterpret_cast<uint16_t*>(super + super_offset(group, true)) = s.super[group][1];
    }
}

KVC_DEVICE void write_value_metadata(const PageShared& s, int groups, bool with_zeros, std::byte* meta) {
    for (int i = simt::thread(); i < groups * page_tokens; i += threads) {
        const int g = i / page_tokens, token = i % page_tokens;
        std::byte* const scale = meta + g * value_group_bytes + value_scale_offset(token);
        *reinterpret_cast<uint16_t*>(scale) = s.value_scale[g][token];
        if (with_zeros) {
            *reinterpret_cast<uint16_t*>(scale + groups * value_group_bytes) = s.value_zero[g][token];
        }
    }
}

}  // namespace kvc::cuda

// Coding 64 tokens by one block: fp16 rows into codes and metadata in shared memory, and those into a record. Every operation and every
// sum is in the order of docs/FORMATS.md, so the bits are those of every other backend; for translation units without contraction of
// multiply and add (-fmad=false).
#pragma once
#include "kernels/cuda/layout.cuh"
#include "kernels/cuda/part_grid.h"

namespace kvc::cuda {

constexpr int value_lanes = 8;  // threads that share a token's values, and lanes of a sum
constexpr int value_groups_max = dim_limit / group_size;

struct PageShared {
    uint8_t codes[page_tokens][dim_limit];
    uint16_t scale[2][dim_limit], zero[2][dim_limit];  // as stored, of keys
    float step[dim_limit], point[dim_limit];
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

// Leaves each channel's wanted step and zero point in shared memory; returns the largest of both.
KVC_DEVICE void find_ranges(const PartGrid& grid, const std::byte* rows, float* step_most, float* point_most, PageShared* s) {
    *step_most = *point_most = 0.0f;
    for (int c = simt::thread(); c < grid.dim; c += threads) {
        float low = number_at(rows, grid.dim, 0, c), high = low;
        for (int t = 1; t < group_size; t++) {
            const float v = number_at(rows, grid.dim, t, c);
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
        const Range range = wanted_range(grid, low, high);
        s->step[c] = range.step;
        s->point[c] = range.point;
        *step_most = simt::maximum(*step_most, range.step);
        *point_most = simt::maximum(*point_most, range.point < 0 ? -range.point : range.point);
    }
}

// Rounds each channel's step and zero point to multiples of the tile's pair, and keeps what they then are.
KVC_DEVICE void round_to_pair(int dim, int tile, float scale_unit, float zero_unit, PageShared* s) {
    for (int c = simt::thread(); c < dim; c += threads) {
        const float wanted = s->step[c] / scale_unit - 0.25f;
        const int whole = int(wanted);
        int multiple = whole + (float(whole) < wanted ? 1 : 0);
        multiple = multiple < 1 ? 1 : multiple > 255 ? 255 : multiple;
        float point = round_signed(s->point[c] / zero_unit);
        point = point < -127.0f ? -127.0f : point > 127.0f ? 127.0f : point;
        s->scale[tile][c] = uint16_t(multiple);
        s->zero[tile][c] = uint16_t(int(point) + zero_point_bias);
        s->step[c] = float(multiple) * scale_unit;
        s->point[c] = point * zero_unit;
    }
}

KVC_DEVICE void round_to_halves(int dim, int tile, PageShared* s) {
    for (int c = simt::thread(); c < dim; c += threads) {
        s->scale[tile][c] = stored_scale(s->step[c]);
        s->zero[tile][c] = simt::float_to_half(s->point[c]);
        s->step[c] = simt::half_to_float(s->scale[tile][c]);
        s->point[c] = simt::half_to_float(s->zero[tile][c]);
    }
}

// The keys of one tile of tokens, [group_size][dim] in fp16.
KVC_DEVICE void encode_key_tile(const PartGrid& grid, bool grouped, int tile, const std::byte* rows, PageShared* s) {
    float step_most, point_most;
    find_ranges(grid, rows, &step_most, &point_most, s);
    if (grouped) {
        round_to_halves(grid.dim, tile, s);
    } else {
        step_most = largest_of_block(step_most, s->most[0]);
        point_most = largest_of_block(point_most, s->most[1]);
        const uint16_t super_scale = stored_scale(step_most / 255.0f), super_zero = stored_scale(point_most / 127.0f);
        if (simt::thread() == 0) {
            s->super[tile][0] = super_scale;
            s->super[tile][1] = super_zero;
        }
        round_to_pair(grid.dim, tile, simt::half_to_float(super_scale), simt::half_to_float(super_zero), s);
    }
    // Each thread reads the steps of its own channels only.
    for (int c = simt::thread(); c < grid.dim; c += threads) {
        for (int t = 0; t < group_size; t++) {
            s->codes[tile * group_size + t][c] =
                round_code((number_at(rows, grid.dim, t, c) - s->point[c]) / s->step[c] + grid.middle, grid.last);
        }
    }
    simt::sync_block();  // before the largest numbers of the next tile overwrite those of this one
}

KVC_DEVICE void encode_keys(const PartGrid& grid, bool grouped, const std::byte* keys, PageShared* s) {
    for (int tile = 0; tile < 2; tile++) {
        encode_key_tile(grid, grouped, tile, keys + tile * group_size * grid.dim * 2, s);
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

KVC_DEVICE void write_key_metadata(const PageShared& s, int dim, bool grouped, std::byte* meta, std::byte* super) {
    for (int i = simt::thread(); i < 2 * dim; i += threads) {
        const int tile = i / dim, k = i % dim / 16, quad = i / 4 % 4, e = i % 4, channel = key_channel(dim, k, quad, e);
        if (grouped) {
            *reinterpret_cast<uint16_t*>(meta + key_half_offset(k, quad, tile, false, e)) = s.scale[tile][channel];
            *reinterpret_cast<uint16_t*>(meta + key_half_offset(k, quad, tile, true, e)) = s.zero[tile][channel];
        } else {
            meta[key_meta_offset(k, quad, tile, false, e)] = std::byte(s.scale[tile][channel]);
            meta[key_meta_offset(k, quad, tile, true, e)] = std::byte(s.zero[tile][channel]);
        }
    }
    if (simt::thread() < 2 && !grouped) {
        const int tile = simt::thread();
        *reinterpret_cast<uint16_t*>(super + super_offset(tile, false)) = s.super[tile][0];
        *reinterpret_cast<uint16_t*>(super + super_offset(tile, true)) = s.super[tile][1];
    }
}

KVC_DEVICE void write_value_metadata(const PageShared& s, int groups, bool grouped, std::byte* meta) {
    for (int i = simt::thread(); i < groups * page_tokens; i += threads) {
        const int g = i / page_tokens, token = i % page_tokens;
        std::byte* const scale = meta + g * value_group_bytes + value_scale_offset(token);
        *reinterpret_cast<uint16_t*>(scale) = s.value_scale[g][token];
        if (grouped) {
            *reinterpret_cast<uint16_t*>(scale + groups * value_group_bytes) = s.value_zero[g][token];
        }
    }
}

}  // namespace kvc::cuda

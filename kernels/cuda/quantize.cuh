// A full window record into a code record of 4-bit keys (per channel, groups of 32 tokens, m8) and 4-bit values (per token, symmetric).
// One block a page. Every operation and every sum is in the order of docs/FORMATS.md, so the bits are those of every other
// backend; for translation units without contraction of multiply and add (-fmad=false).
// Reads 128 * (KD + VD) bytes, writes about a quarter of that; bound by the divisions, one for every number.
#pragma once
#include "core/codec/format.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layout.cuh"

namespace kvc::cuda {

constexpr int token_tile = 32;  // tokens of one key scale
constexpr int value_lanes = 8;  // threads that share a token's values
constexpr float last_code = 15.0f;
constexpr float middle_code = 8.0f;     // of values: the code of 0
constexpr float symmetric_span = 7.0f;  // steps from 0 to the largest value

struct QuantizeShared {
    uint8_t codes[page_tokens][dim_limit];
    uint8_t scale[2][dim_limit], zero[2][dim_limit];  // as stored, of keys
    float step[dim_limit], point[dim_limit];
    uint16_t super[2][2];
    uint16_t value_scale[page_tokens];
    float most[2][warps];
};

KVC_DEVICE float number_at(const std::byte* rows, int dim, int token, int channel) {
    return simt::half_to_float(reinterpret_cast<const uint16_t*>(rows)[token * dim + channel]);
}

// Adding 2^23 leaves no bits behind the point, so the addition rounds half to even.
KVC_DEVICE float clamp_code(float v) {
    v = v > 0.0f ? v : 0.0f;
    return v < last_code ? v : last_code;
}
KVC_DEVICE uint8_t round_code(float v) { return uint8_t(simt::bits_of_float(clamp_code(v) + 0x1p23f)); }
KVC_DEVICE float round_signed(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

KVC_DEVICE uint16_t stored_scale(float s) {
    const uint16_t bits = simt::float_to_half(s < 65504.0f ? s : 65504.0f);
    return bits > 0 ? bits : uint16_t(1);
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
KVC_DEVICE void find_ranges(const std::byte* rows, int dim, float* step_most, float* point_most, QuantizeShared* s) {
    *step_most = *point_most = 0.0f;
    for (int c = simt::thread(); c < dim; c += threads) {
        float low = number_at(rows, dim, 0, c), high = low;
        for (int t = 1; t < token_tile; t++) {
            const float v = number_at(rows, dim, t, c);
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
        s->step[c] = (high - low) / last_code;
        s->point[c] = low + 0.0f;
        const float size = s->point[c] < 0 ? -s->point[c] : s->point[c];
        *step_most = simt::maximum(*step_most, s->step[c]);
        *point_most = simt::maximum(*point_most, size);
    }
}

// Rounds each channel's step and zero point to multiples of the tile's pair, and keeps what they then are.
KVC_DEVICE void round_to_pair(int dim, int tile, float scale_unit, float zero_unit, QuantizeShared* s) {
    for (int c = simt::thread(); c < dim; c += threads) {
        const float wanted = s->step[c] / scale_unit - 0.25f;
        const int whole = int(wanted);
        int multiple = whole + (float(whole) < wanted ? 1 : 0);
        multiple = multiple < 1 ? 1 : multiple > 255 ? 255 : multiple;
        float point = round_signed(s->point[c] / zero_unit);
        point = point < -127.0f ? -127.0f : point > 127.0f ? 127.0f : point;
        s->scale[tile][c] = uint8_t(multiple);
        s->zero[tile][c] = uint8_t(int(point) + zero_point_bias);
        s->step[c] = float(multiple) * scale_unit;
        s->point[c] = point * zero_unit;
    }
}

KVC_DEVICE void encode_keys(const std::byte* keys, int dim, QuantizeShared* s) {
    for (int tile = 0; tile < 2; tile++) {
        const std::byte* const rows = keys + tile * token_tile * dim * 2;
        float step_most, point_most;
        find_ranges(rows, dim, &step_most, &point_most, s);
        step_most = largest_of_block(step_most, s->most[0]);
        point_most = largest_of_block(point_most, s->most[1]);
        const uint16_t super_scale = stored_scale(step_most / 255.0f), super_zero = stored_scale(point_most / 127.0f);
        if (simt::thread() == 0) {
            s->super[tile][0] = super_scale;
            s->super[tile][1] = super_zero;
        }
        round_to_pair(dim, tile, simt::half_to_float(super_scale), simt::half_to_float(super_zero), s);
        // Each thread reads the steps of its own channels only.
        for (int c = simt::thread(); c < dim; c += threads) {
            for (int t = 0; t < token_tile; t++) {
                s->codes[tile * token_tile + t][c] = round_code((number_at(rows, dim, t, c) - s->point[c]) / s->step[c]);
            }
        }
        simt::sync_block();  // before the largest numbers of the next tile overwrite those of this one
    }
}

// ---- values: eight threads a token ----

KVC_DEVICE uint16_t symmetric_scale(const std::byte* values, int dim, int token, int lane) {
    float most = 0.0f;
    for (int i = lane; i < dim; i += value_lanes) {
        const float x = number_at(values, dim, token, i);
        most = simt::maximum(most, x < 0 ? -x : x);
    }
    for (int distance = value_lanes / 2; distance > 0; distance /= 2) {
        most = simt::maximum(most, simt::shuffle_xor(most, distance));
    }
    return stored_scale(most / symmetric_span);
}

KVC_DEVICE void encode_values(const std::byte* values, int dim, QuantizeShared* s) {
    const int lane = simt::thread() % value_lanes;
    for (int token = simt::thread() / value_lanes; token < page_tokens; token += threads / value_lanes) {
        const uint16_t scale = symmetric_scale(values, dim, token, lane);
        const float step = simt::half_to_float(scale);
        for (int i = lane; i < dim; i += value_lanes) {
            s->codes[token][i] = round_code(number_at(values, dim, token, i) / step + middle_code);
        }
        if (lane == 0) {
            s->value_scale[token] = scale;
        }
    }
}

// ---- into fragment order ----

// One lane's word of a fragment, from codes of rows `row` and `row + 8` of 16 and four columns.
template <class CodeAt>
KVC_DEVICE uint32_t fragment_word(const CodeAt& code_at) {
    uint32_t word = 0;
    for (int upper = 0; upper < 2; upper++) {
        for (int e = 0; e < 4; e++) {
            word |= uint32_t(code_at(upper, e)) << nibble_shift(upper, e);
        }
    }
    return word;
}

KVC_DEVICE void write_key_codes(const QuantizeShared& s, int dim, std::byte* out) {
    for (int i = simt::thread(); i < dim / 16 * 32 * 4; i += threads) {
        const int k = i / 128, lane = i / 4 % 32, t = i % 4;
        *reinterpret_cast<uint32_t*>(out + code_offset(k, lane, t)) =
            fragment_word([&](int upper, int e) { return s.codes[16 * t + lane / 4 + 8 * upper][key_channel(dim, k, lane % 4, e)]; });
    }
}

KVC_DEVICE void write_value_codes(const QuantizeShared& s, int dim, std::byte* out) {
    for (int i = simt::thread(); i < dim / 16 * 32 * 4; i += threads) {
        const int c = i / 128, lane = i / 4 % 32, t = i % 4;
        *reinterpret_cast<uint32_t*>(out + code_offset(c, lane, t)) = fragment_word([&](int upper, int e) {
            return s.codes[16 * t + 2 * (lane % 4) + e % 2 + 8 * (e / 2)][value_channel(dim, c, lane / 4, upper)];
        });
    }
}

KVC_DEVICE void write_key_metadata(const QuantizeShared& s, int dim, std::byte* meta, std::byte* super) {
    for (int i = simt::thread(); i < dim; i += threads) {
        const int k = i / 16, quad = i / 4 % 4, e = i % 4, channel = key_channel(dim, k, quad, e);
        for (int tile = 0; tile < 2; tile++) {
            meta[key_meta_offset(k, quad, tile, false, e)] = std::byte(s.scale[tile][channel]);
            meta[key_meta_offset(k, quad, tile, true, e)] = std::byte(s.zero[tile][channel]);
        }
    }
    if (simt::thread() < 2) {
        const int tile = simt::thread();
        *reinterpret_cast<uint16_t*>(super + super_offset(tile, false)) = s.super[tile][0];
        *reinterpret_cast<uint16_t*>(super + super_offset(tile, true)) = s.super[tile][1];
    }
}

KVC_KERNEL(threads, 2) quantize_page(const QuantizeJob* jobs, int k_dim, int v_dim, PartLayout k, PartLayout v) {
    KVC_SHARED(QuantizeShared, shared);
    const QuantizeJob job = jobs[simt::block_x()];
    encode_keys(job.window, k_dim, &shared);
    simt::sync_block();
    write_key_codes(shared, k_dim, job.codes + k.codes);
    write_key_metadata(shared, k_dim, job.codes + k.meta, job.codes + k.super);
    simt::sync_block();
    encode_values(job.window + page_tokens * k_dim * 2, v_dim, &shared);
    simt::sync_block();
    write_value_codes(shared, v_dim, job.codes + v.codes);
    for (int token = simt::thread(); token < page_tokens; token += threads) {
        *reinterpret_cast<uint16_t*>(job.codes + v.meta + value_scale_offset(token)) = shared.value_scale[token];
    }
}

}  // namespace kvc::cuda

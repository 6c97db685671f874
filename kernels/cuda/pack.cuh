// Code records from and to the canonical form, on the host: what export, import and tests need.
#pragma once
#include <cstring>

#include "core/codec/canonical.h"
#include "kernels/cuda/layout.cuh"

namespace kvc::cuda {

// Calls visit(byte offset from the part's codes, shift in the byte, token, channel) for every code of keys or values.
template <bool keys, class Visit>
void for_each_code(int dim, const Visit& visit) {
    for (int fragment = 0; fragment < dim / 16; fragment++) {
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < 32; i++) {
                const int t = i / 8, upper = i / 4 % 2, e = i % 4;
                const int shift = nibble_shift(upper, e);
                // Of the product's rows and columns, tokens are the rows for keys and the columns for values.
                const int token = keys ? 16 * t + lane / 4 + 8 * upper : 16 * t + 2 * (lane % 4) + e % 2 + 8 * (e / 2);
                const int channel = keys ? key_channel(dim, fragment, lane % 4, e) : value_channel(dim, fragment, lane / 4, upper);
                visit(code_offset(fragment, lane, t) + shift / 8, shift % 8, token, channel);
            }
        }
    }
}

template <bool keys>
void pack_codes(int dim, const CanonicalPart& part, std::byte* out) {
    std::memset(out, 0, size_t(dim) * page_tokens / 2);
    for_each_code<keys>(
        dim, [&](int byte, int shift, int token, int channel) { out[byte] |= std::byte(part.codes[token * dim + channel] << shift); });
}

template <bool keys>
void unpack_codes(int dim, const std::byte* codes, CanonicalPart* out) {
    for_each_code<keys>(dim, [&](int byte, int shift, int token, int channel) {
        out->codes[token * dim + channel] = uint8_t(uint8_t(codes[byte]) >> shift & 15);
    });
}

// Calls visit(byte offset from the keys' metadata, of the scale; of the zero point, index in the canonical order).
template <class Visit>
void for_each_key_scale(int dim, const Visit& visit) {
    for (int i = 0; i < dim; i++) {
        const int k = i / 16, quad = i / 4 % 4, e = i % 4;
        for (int tile = 0; tile < 2; tile++) {
            visit(key_meta_offset(k, quad, tile, false, e), key_meta_offset(k, quad, tile, true, e),
                  tile * dim + key_channel(dim, k, quad, e));
        }
    }
}

inline void copy_16(const void* from, void* to) { std::memcpy(to, from, 2); }

inline void pack_record(const LayerFormat& f, const CanonicalPart& k, const CanonicalPart& v, std::byte* record) {
    pack_codes<true>(f.k_dim, k, record + f.k.codes);
    pack_codes<false>(f.v_dim, v, record + f.v.codes);
    for_each_key_scale(f.k_dim, [&](int scale, int zero, int index) {
        record[f.k.meta + scale] = std::byte(k.scales[index]);
        record[f.k.meta + zero] = std::byte(uint8_t(k.zeros[index] + zero_point_bias));
    });
    for (int tile = 0; tile < 2; tile++) {
        copy_16(&k.super_scale[tile], record + f.k.super + super_offset(tile, false));
        copy_16(&k.super_zero[tile], record + f.k.super + super_offset(tile, true));
    }
    for (int token = 0; token < page_tokens; token++) {
        copy_16(&v.scales[token], record + f.v.meta + value_scale_offset(token));
    }
}

inline void unpack_record(const LayerFormat& f, const std::byte* record, CanonicalPart* k, CanonicalPart* v) {
    unpack_codes<true>(f.k_dim, record + f.k.codes, k);
    unpack_codes<false>(f.v_dim, record + f.v.codes, v);
    for_each_key_scale(f.k_dim, [&](int scale, int zero, int index) {
        k->scales[index] = uint16_t(record[f.k.meta + scale]);
        k->zeros[index] = uint8_t(int(record[f.k.meta + zero]) - zero_point_bias);
    });
    for (int tile = 0; tile < 2; tile++) {
        copy_16(record + f.k.super + super_offset(tile, false), &k->super_scale[tile]);
        copy_16(record + f.k.super + super_offset(tile, true), &k->super_zero[tile]);
    }
    for (int token = 0; token < page_tokens; token++) {
        copy_16(record + f.v.meta + value_scale_offset(token), &v->scales[token]);
        v->zeros[token] = 0;
    }
}

}  // namespace kvc::cuda

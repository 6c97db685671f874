// Code records from and to the canonical form, on the host: what export, import and tests need.
#pragma once
#include <cstring>

#include "core/codec/canonical.h"
#include "kernels/cuda/layout.cuh"

namespace kvc::cuda {

// One part's codes, as for_each_code needs to know them.
struct CodeShape {
    int bits, dim;
    bool keys, v_groups;
};

// A bit of a code: byte offset from the part's codes, and which bit of that byte.
struct BitPlace {
    int byte, bit;
};
inline BitPlace bit_place(const CodeShape& shape, int fragment, int lane, const CodePlace& place, int n) {
    const int bit = place.spread ? place.bit : place.bit + n;
    return {code_offset(shape.bits, shape.dim, fragment, lane, place.spread ? n : place.word) + bit / 8, bit % 8};
}

// Calls visit(token, channel, bit_of) for every code; bit_of(n) is the place of its bit n.
template <class Visit>
void for_each_code(const CodeShape& shape, const Visit& visit) {
    for (int fragment = 0; fragment < shape.dim / 16; fragment++) {
        for (int i = 0; i < 32 * 32; i++) {
            const int lane = i / 32, token_class = i / 4 % 8, member = i / 2 % 2, element = i % 2;
            const int first = 16 * (token_class / 2) + 8 * (token_class % 2), row = lane / 4, quad = lane % 4;
            const int token = first + (shape.keys ? row : 2 * quad + element);
            const int channel = shape.keys ? key_channel(shape.dim, fragment, quad, 2 * member + element)
                                           : value_channel(shape.dim, fragment, row, member, widest_run(shape.v_groups));
            const CodePlace place = code_place(shape.bits, token_class, member, element);
            visit(token, channel, [&](int n) { return bit_place(shape, fragment, lane, place, n); });
        }
    }
}

inline void pack_codes(const CodeShape& shape, const CanonicalPart& part, std::byte* out) {
    std::memset(out, 0, size_t(shape.dim * page_tokens / 8 * shape.bits));
    for_each_code(shape, [&](int token, int channel, const auto& bit_of) {
        const int code = part.codes[token * shape.dim + channel];
        for (int n = 0; n < shape.bits; n++) {
            const BitPlace at = bit_of(n);
            out[at.byte] |= std::byte((code >> n & 1) << at.bit);
        }
    });
}

inline void unpack_codes(const CodeShape& shape, const std::byte* codes, CanonicalPart* out) {
    for_each_code(shape, [&](int token, int channel, const auto& bit_of) {
        int code = 0;
        for (int n = 0; n < shape.bits; n++) {
            const BitPlace at = bit_of(n);
            code |= (int(codes[at.byte]) >> at.bit & 1) << n;
        }
        out->codes[token * shape.dim + channel] = uint8_t(code);
    });
}

// Calls visit(byte offset from the keys' metadata, of the scale; of the zero point, index in the canonical order).
template <class Visit>
void for_each_key_scale(int dim, const Metadata& meta, const Visit& visit) {
    for (int i = 0; i < meta.k_groups * dim; i++) {
        const int group = i / dim, k = i % dim / 16, quad = i / 4 % 4, e = i % 4;
        visit(key_meta_offset(meta, k, quad, group, false, e), key_meta_offset(meta, k, quad, group, true, e),
              group * dim + key_channel(dim, k, quad, e));
    }
}

inline void copy_16(const void* from, void* to) { std::memcpy(to, from, 2); }

// Calls visit(byte offset from the values' metadata, canonical index) for every scale; zero points lie `zeros` bytes behind.
template <class Visit>
void for_each_value_scale(int groups, const Visit& visit) {
    for (int i = 0; i < groups * page_tokens; i++) {
        visit(i / page_tokens * value_group_bytes + value_scale_offset(i % page_tokens), i);
    }
}

// The groups of a token's channels.
inline int value_groups(const LayerFormat& f) { return f.codec.v.group ? f.v_dim / f.codec.v.group : 1; }

inline CodeShape key_shape(const LayerFormat& f) { return {bits_of(f.codec.k.type), f.k_dim, true, false}; }
inline CodeShape value_shape(const LayerFormat& f) { return {bits_of(f.codec.v.type), f.v_dim, false, metadata_of(f).v_groups}; }

inline void pack_record(const LayerFormat& f, const CanonicalPart& k, const CanonicalPart& v, std::byte* record) {
    const Metadata meta = metadata_of(f);
    pack_codes(key_shape(f), k, record + f.k.codes);
    pack_codes(value_shape(f), v, record + f.v.codes);
    std::byte* const keys = record + f.k.meta;
    for_each_key_scale(f.k_dim, meta, [&](int scale, int zero, int index) {
        if (meta.k_halves) {
            copy_16(&k.scales[index], keys + scale);
            copy_16(&k.zeros[index], keys + zero);
        } else {
            keys[scale] = std::byte(k.scales[index]);
            keys[zero] = std::byte(uint8_t(k.zeros[index] + zero_point_bias));
        }
    });
    for (int group = 0; group < meta.k_groups && !meta.k_halves; group++) {
        copy_16(&k.super_scale[group], record + f.k.super + super_offset(group, false));
        copy_16(&k.super_zero[group], record + f.k.super + super_offset(group, true));
    }
    const int groups = value_groups(f);
    for_each_value_scale(groups, [&](int at, int index) {
        copy_16(&v.scales[index], record + f.v.meta + at);
        if (meta.v_groups) {
            copy_16(&v.zeros[index], record + f.v.meta + groups * value_group_bytes + at);
        }
    });
}

inline void unpack_record(const LayerFormat& f, const std::byte* record, CanonicalPart* k, CanonicalPart* v) {
    const Metadata meta = metadata_of(f);
    unpack_codes(key_shape(f), record + f.k.codes, k);
    unpack_codes(value_shape(f), record + f.v.codes, v);
    const std::byte* const keys = record + f.k.meta;
    for_each_key_scale(f.k_dim, meta, [&](int scale, int zero, int index) {
        if (meta.k_halves) {
            copy_16(keys + scale, &k->scales[index]);
            copy_16(keys + zero, &k->zeros[index]);
        } else {
            k->scales[index] = uint16_t(keys[scale]);
            k->zeros[index] = uint8_t(int(keys[zero]) - zero_point_bias);
        }
    });
    for (int group = 0; group < meta.k_groups && !meta.k_halves; group++) {
        copy_16(record + f.k.super + super_offset(group, false), &k->super_scale[group]);
        copy_16(record + f.k.super + super_offset(group, true), &k->super_zero[group]);
    }
    const int groups = value_groups(f);
    for_each_value_scale(groups, [&](int at, int index) {
        copy_16(record + f.v.meta + at, &v->scales[index]);
        v->zeros[index] = 0;
        if (meta.v_groups) {
            copy_16(record + f.v.meta + groups * value_group_bytes + at, &v->zeros[index]);
        }
    });
}

}  // namespace kvc::cuda

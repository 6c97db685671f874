// Whole pages: 16-bit records and code records to f32 and back, and the canonical form. Compiled once per CPU target.
#pragma once
#include <cstring>

#include "core/backend/kernel_table.h"
#include "core/codec/canonical_body.h"
#include "kernels/cpu/layout.h"

namespace kvc {
namespace {

inline float number_of(uint16_t bits, bool bf16) { return bf16 ? f32_from_bf16(bits) : f32_from_f16(bits); }

inline const uint16_t* numbers_at(const std::byte* record, int64_t offset) {
    return reinterpret_cast<const uint16_t*>(record + offset);
}

// ---- 16 bits to f32 ----

inline void read_k16(const uint16_t* numbers, int dim, bool bf16, float* __restrict x) {
    for (int tb = 0; tb < page_tokens / 16; ++tb) {
        for (int d = 0; d < dim; ++d) {
            const uint16_t* column = numbers + k16_index(dim, tb * 16, d);
            for (int t = 0; t < 16; ++t) {
                x[(tb * 16 + t) * dim + d] = number_of(column[t], bf16);
            }
        }
    }
}

inline void read_rows16(const uint16_t* numbers, int64_t n, bool bf16, float* __restrict x) {
    for (int64_t i = 0; i < n; ++i) {
        x[i] = number_of(numbers[i], bf16);
    }
}

// ---- codes <-> bytes ----

// Calls visit(unit, first token, first channel) for all units of a plane; within one, byte i holds token and channel
// (first + i / 4, first + i % 4) of keys, (first + i % 4, first + i / 4) of values.
template <bool keys, class Visit>
void for_each_unit(int bits, int dim, const Visit& visit) {
    if (keys) {
        for (int tb = 0; tb < page_tokens / 16; ++tb) {
            for (int dq = 0; dq < dim / 4; ++dq) {
                visit(k_unit(bits, dim, tb, dq), tb * 16, dq * 4);
            }
        }
    } else {
        for (int dt = 0; dt < dim / 16; ++dt) {
            for (int tq = 0; tq < page_tokens / 4; ++tq) {
                visit(v_unit(bits, dt, tq), tq * 4, dt * 16);
            }
        }
    }
}

template <bool keys>
void unpack_codes(const Codec& codec, const PartLayout& part, int dim, const std::byte* record, uint8_t* __restrict codes) {
    const Planes planes = planes_of(codec, part);
    for (int p = 0; p < planes.n; ++p) {
        const Plane plane = planes.plane[p];
        const auto* bytes = reinterpret_cast<const uint8_t*>(record + plane.offset);
        const int mask = (1 << plane.bits) - 1;
        for_each_unit<keys>(plane.bits, dim, [&](Unit unit, int t0, int d0) {
            const uint8_t* block = bytes + unit.block * unit_bytes;
            for (int i = 0; i < unit_bytes; ++i) {
                const int t = t0 + (keys ? i / 4 : i % 4), d = d0 + (keys ? i % 4 : i / 4);
                const int bits = ((block[i] >> unit.shift) & mask) << plane.first_bit;
                codes[t * dim + d] = uint8_t(p == 0 ? bits : codes[t * dim + d] | bits);
            }
        });
    }
}

template <bool keys>
void pack_codes(const Codec& codec, const PartLayout& part, int dim, const uint8_t* __restrict codes, std::byte* record) {
    std::memset(record + part.codes, 0, size_t(part.codes_bytes));
    const Planes planes = planes_of(codec, part);
    for (int p = 0; p < planes.n; ++p) {
        const Plane plane = planes.plane[p];
        auto* bytes = reinterpret_cast<uint8_t*>(record + plane.offset);
        const int mask = (1 << plane.bits) - 1;
        for_each_unit<keys>(plane.bits, dim, [&](Unit unit, int t0, int d0) {
            uint8_t* block = bytes + unit.block * unit_bytes;
            for (int i = 0; i < unit_bytes; ++i) {
                const int t = t0 + (keys ? i / 4 : i % 4), d = d0 + (keys ? i % 4 : i / 4);
                block[i] = uint8_t(block[i] | (((codes[t * dim + d] >> plane.first_bit) & mask) << unit.shift));
            }
        });
    }
}

// ---- metadata: scales, then zero points, in canonical order ----

inline void unpack_meta(const Codec& codec, const PartLayout& layout, int64_t groups, const std::byte* record, CanonicalPart* part) {
    const std::byte* meta = record + layout.meta;
    const int64_t sets = codec.symmetric ? 1 : 2;
    for (int64_t s = 0; s < sets; ++s) {
        uint16_t* numbers = s == 0 ? part->scales : part->zeros;
        for (int64_t i = 0; i < groups; ++i) {
            if (codec.m8) {
                numbers[i] = uint16_t(meta[s * groups + i]);
            } else {
                std::memcpy(numbers + i, meta + (s * groups + i) * 2, 2);
            }
        }
    }
    for (int tile = 0; tile < int(layout.super_bytes / 4); ++tile) {
        std::memcpy(part->super_scale + tile, record + layout.super + tile * 4, 2);
        std::memcpy(part->super_zero + tile, record + layout.super + tile * 4 + 2, 2);
    }
}

inline void pack_meta(const Codec& codec, const PartLayout& layout, int64_t groups, const CanonicalPart& part, std::byte* record) {
    std::byte* meta = record + layout.meta;
    const int64_t sets = codec.symmetric ? 1 : 2;
    for (int64_t s = 0; s < sets; ++s) {
        const uint16_t* numbers = s == 0 ? part.scales : part.zeros;
        for (int64_t i = 0; i < groups; ++i) {
            if (codec.m8) {
                meta[s * groups + i] = std::byte(numbers[i]);
            } else {
                std::memcpy(meta + (s * groups + i) * 2, numbers + i, 2);
            }
        }
    }
    for (int tile = 0; tile < int(layout.super_bytes / 4); ++tile) {
        std::memcpy(record + layout.super + tile * 4, part.super_scale + tile, 2);
        std::memcpy(record + layout.super + tile * 4 + 2, part.super_zero + tile, 2);
    }
}

// ---- parts ----

template <bool keys>
void unpack_part(const LayerFormat& format, const std::byte* record, CanonicalPart* part) {
    const Codec& codec = keys ? format.codec.k : format.codec.v;
    const PartLayout& layout = keys ? format.k : format.v;
    const int dim = keys ? format.k_dim : format.v_dim;
    unpack_codes<keys>(codec, layout, dim, record, part->codes);
    unpack_meta(codec, layout, group_count(codec, dim), record, part);
}

template <bool keys>
void pack_part(const LayerFormat& format, const CanonicalPart& part, std::byte* record) {
    const Codec& codec = keys ? format.codec.k : format.codec.v;
    const PartLayout& layout = keys ? format.k : format.v;
    const int dim = keys ? format.k_dim : format.v_dim;
    pack_codes<keys>(codec, layout, dim, part.codes, record);
    pack_meta(codec, layout, group_count(codec, dim), part, record);
}

// 64 tokens in 16 bits, from a window record or a 16-bit part of a code record that starts at offset.
template <bool keys>
void read_16_bit_part(const LayerFormat& format, const std::byte* record, int64_t offset, float* x) {
    if (keys) {
        read_k16(numbers_at(record, offset), format.k_dim, format.bf16_window, x);
    } else {
        read_rows16(numbers_at(record, offset), int64_t{page_tokens} * format.v_dim, format.bf16_window, x);
    }
}

template <bool keys>
void read_part(const LayerFormat& format, KernelTable::Form form, const std::byte* record, float* x) {
    const Codec& codec = keys ? format.codec.k : format.codec.v;
    const int dim = keys ? format.k_dim : format.v_dim;
    if (form == KernelTable::Form::sinks) {
        read_rows16(numbers_at(record, keys ? 0 : sink_v_offset(format)), format.codec.sinks * dim, format.bf16_window, x);
    } else if (form == KernelTable::Form::window) {
        read_16_bit_part<keys>(format, record, keys ? 0 : window_v_offset(format), x);
    } else if (is_16_bit(codec.type)) {
        read_16_bit_part<keys>(format, record, keys ? format.k.codes : format.v.codes, x);
    } else {
        CanonicalPart part;
        unpack_part<keys>(format, record, &part);
        decode_part_body(codec, dim, part, x);
    }
}

template <bool keys>
void quantize_part(const LayerFormat& format, const std::byte* window, std::byte* codes) {
    const Codec& codec = keys ? format.codec.k : format.codec.v;
    const PartLayout& layout = keys ? format.k : format.v;
    if (is_16_bit(codec.type)) {
        std::memcpy(codes + layout.codes, window + (keys ? 0 : window_v_offset(format)), size_t(layout.codes_bytes));
        return;
    }
    float x[page_tokens * dim_limit];
    CanonicalPart part;
    read_part<keys>(format, KernelTable::Form::window, window, x);
    encode_part_body(codec, keys ? format.k_dim : format.v_dim, x, &part);
    pack_part<keys>(format, part, codes);
}

// ---- entries of the kernel table ----

// What no part fills is zeroed, so that equal pages are equal records.
inline void clear_padding(const LayerFormat& format, std::byte* record) {
    const int64_t end = format.v.super + format.v.super_bytes;
    std::memset(record + end, 0, size_t(format.code_bytes - end));
}

inline void quantize_page(const QuantizeParams& params) {
    quantize_part<true>(*params.format, params.window, params.codes);
    quantize_part<false>(*params.format, params.window, params.codes);
    clear_padding(*params.format, params.codes);
}

inline void read_page(const LayerFormat& format, KernelTable::Form form, const std::byte* record, float* k, float* v) {
    if (k) {
        read_part<true>(format, form, record, k);
    }
    if (v) {
        read_part<false>(format, form, record, v);
    }
}

inline void unpack_page(const LayerFormat& format, const std::byte* record, CanonicalPart* k, CanonicalPart* v) {
    if (!is_16_bit(format.codec.k.type)) {
        unpack_part<true>(format, record, k);
    }
    if (!is_16_bit(format.codec.v.type)) {
        unpack_part<false>(format, record, v);
    }
}

inline void pack_page(const LayerFormat& format, const CanonicalPart& k, const CanonicalPart& v, std::byte* record) {
    if (!is_16_bit(format.codec.k.type)) {
        pack_part<true>(format, k, record);
    }
    if (!is_16_bit(format.codec.v.type)) {
        pack_part<false>(format, v, record);
    }
    clear_padding(format, record);
}

}  // namespace
}  // namespace kvc

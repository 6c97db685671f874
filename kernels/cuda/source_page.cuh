// Single numbers of tokens in records of any form, decoded as decode_part does; for translation units without contraction of multiply and
// add (-fmad=false).
#pragma once
#include "kernels/cuda/layout.cuh"
#include "kernels/cuda/source_page.h"

namespace kvc::cuda {

KVC_DEVICE uint32_t code_at(const PartForm& part, const std::byte* record, int fragment, int lane, const CodePlace& place) {
    const std::byte* const codes = record + part.codes;
    const auto word = [&](int w) {
        return *reinterpret_cast<const uint32_t*>(codes + code_offset(part.bits, part.dim, fragment, lane, w));
    };
    if (!place.spread) {
        return word(place.word) >> place.bit & ((1u << part.bits) - 1);
    }
    uint32_t code = 0;
    for (int n = 0; n < part.bits; n++) {
        code |= (word(n) >> place.bit & 1) << n;
    }
    return code;
}

KVC_DEVICE float half_at(const std::byte* p) { return simt::half_to_float(*reinterpret_cast<const uint16_t*>(p)); }

KVC_DEVICE float coded_key(const SourcePage& from, int slot, int channel) {
    const PartForm& part = from.k;
    const KeyPlace at = key_place(part.dim, channel);
    const int group = slot * from.meta.k_groups / page_tokens, lane = 4 * (slot % 8) + at.quad;
    const uint32_t code = code_at(part, from.record, at.fragment, lane, code_place(part.bits, slot / 8, at.e / 2, at.e % 2));
    const std::byte* const meta = from.record + part.meta;
    const std::byte* const stored_step = meta + key_meta_offset(from.meta, at.fragment, at.quad, group, false, at.e);
    const std::byte* const stored_zero = meta + key_meta_offset(from.meta, at.fragment, at.quad, group, true, at.e);
    float step, zero;
    if (from.meta.k_halves) {
        step = half_at(stored_step);
        zero = half_at(stored_zero);
    } else {
        const int multiple = int(*stored_step), point = int(*stored_zero) - zero_point_bias;
        step = float(multiple) * half_at(from.record + part.super + super_offset(group, false));
        zero = float(point) * half_at(from.record + part.super + super_offset(group, true));
    }
    return (float(code) - part.middle) * step + zero;
}

KVC_DEVICE uint32_t value_code(const SourcePage& from, int slot, int channel) {
    const ValuePlace at = value_place(from.v.dim, channel, widest_run(from.meta.v_groups));
    const CodePlace place = code_place(from.v.bits, slot / 8, at.upper, slot % 2);
    return code_at(from.v, from.record, at.fragment, 4 * at.row + slot % 8 / 2, place);
}
KVC_DEVICE const std::byte* value_scale(const SourcePage& from, int slot, int group) {
    return from.record + from.v.meta + group * value_group_bytes + value_scale_offset(slot);
}

KVC_DEVICE float coded_value(const SourcePage& from, int slot, int channel) {
    const std::byte* const scale = value_scale(from, slot, channel / (from.v.dim / from.v.groups));
    const float zero = from.meta.v_groups ? half_at(scale + from.v.groups * value_group_bytes) : 0.0f;
    return (float(value_code(from, slot, channel)) - from.v.middle) * half_at(scale) + zero;
}

KVC_DEVICE float number_of(const SourcePage& from, bool keys, int slot, int channel) {
    const PartForm& part = keys ? from.k : from.v;
    if (from.rows) {
        const uint32_t bits = reinterpret_cast<const uint16_t*>(from.record + part.codes)[slot * part.dim + channel];
        return from.bf16 ? simt::float_of_bits(bits << 16) : simt::half_to_float(bits);
    }
    return keys ? coded_key(from, slot, channel) : coded_value(from, slot, channel);
}

}  // namespace kvc::cuda

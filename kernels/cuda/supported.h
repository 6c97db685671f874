// Which formats this backend has kernels for, and where their parts lie in a code record.
#pragma once
#include <optional>

#include "core/codec/format.h"
#include "kernels/cuda/page_kind.h"

namespace kvc::cuda {

constexpr int value_group = 32;  // channels of a scale, of grouped values

// Offsets in a code record, which kernels know at compile time.
template <PageKind kind, int KD, int VD>
struct CodeRecord {
    static constexpr int k_bits = coding<kind>.k_bits, v_bits = coding<kind>.v_bits;
    static constexpr Metadata meta = coding<kind>.meta;
    static constexpr int k_codes = 0;
    static constexpr int v_codes = KD * page_tokens / 8 * k_bits;
    static constexpr int k_meta = v_codes + VD * page_tokens / 8 * v_bits;
    static constexpr int v_meta = k_meta + KD * meta.k_groups * (meta.k_halves ? 4 : 2);
    static constexpr int v_zeros = v_meta + VD / value_group * page_tokens * 2;  // of grouped values
    static constexpr int k_super = v_meta + page_tokens * 2;                     // of keys with 8-bit scales
    static constexpr int end =
        meta.v_groups ? v_zeros + VD / value_group * page_tokens * 2 : k_super + (meta.k_halves ? 0 : 4 * meta.k_groups);
    static constexpr int bytes = (end + 127) / 128 * 128;
};

template <PageKind kind, int KD, int VD>
bool has_offsets_of(const LayerFormat& f) {
    using Record = CodeRecord<kind, KD, VD>;
    return f.k_dim == KD && f.v_dim == VD && f.k.codes == Record::k_codes && f.v.codes == Record::v_codes &&
           f.k.meta == Record::k_meta && f.v.meta == Record::v_meta && (Record::meta.k_halves || f.k.super == Record::k_super) &&
           f.code_bytes == Record::bytes;
}

// The format is what everybody else goes by: a kernel that would read other places must not run.
inline bool has_known_offsets(PageKind kind, const LayerFormat& f) {
#define KVC_CUDA_HAS_OFFSETS(KD, VD) || has_offsets_of<known, KD, VD>(f)
#define KVC_CUDA_KIND(name, ...)                               \
    if (kind == PageKind::name) {                              \
        constexpr PageKind known = PageKind::name;             \
        return false KVC_CUDA_HEAD_DIMS(KVC_CUDA_HAS_OFFSETS); \
    }
    KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
#undef KVC_CUDA_HAS_OFFSETS
    return is_rows(kind);
}

inline bool has_head_dims(PageKind kind, const LayerFormat& f) {
#define KVC_CUDA_IS_PAIR(KD, VD) || (f.k_dim == KD && f.v_dim == VD && is_instantiated(kind, KD, VD))
    return false KVC_CUDA_HEAD_DIMS(KVC_CUDA_IS_PAIR);
#undef KVC_CUDA_IS_PAIR
}

// Of a format that has codes; nothing to others.
inline Metadata metadata_of(const LayerFormat& f) {
    const int group = int(f.codec.k.group);
    return {group > 0 ? int(page_tokens) / group : 0, !f.codec.k.m8, f.codec.v.axis == Axis::token && f.codec.v.group > 0};
}

// The kind of a format's code records, whatever the head dims; none if no kernel reads such codes. Rotated values and clipped ranges are
// nothing to a kernel that reads codes, nor is how a scale without a zero point was found.
inline std::optional<PageKind> kind_of(const LayerFormat& f) {
    if (f.codec.k.rotate) {
        return std::nullopt;
    }
    if (f.lossless) {
        return f.bf16_window ? PageKind::bf16_rows : PageKind::rows;
    }
    const Codec& k = f.codec.k;
    const Codec& v = f.codec.v;
    const bool keys = !is_16_bit(k.type) && k.axis == Axis::channel && !k.symmetric;
    const bool values = !is_16_bit(v.type) && v.axis == Axis::token && v.symmetric == (v.group == 0);
    if (!keys || !values) {
        return std::nullopt;
    }
#define KVC_CUDA_KIND(name, k_bits, v_bits, k_group, k_meta_bits, v_group)                                            \
    if (bits_of(k.type) == k_bits && bits_of(v.type) == v_bits && k.group == k_group && k.m8 == (k_meta_bits == 8) && \
        v.group == v_group) {                                                                                         \
        return PageKind::name;                                                                                        \
    }
    KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
    return std::nullopt;
}

// nullptr, or what of it there is no kernel for: short, because the caller's error is, and says the codec before it.
inline const char* unsupported(const LayerFormat& f) {
    const Codec& k = f.codec.k;
    const Codec& v = f.codec.v;
    if (k.rotate) {
        return "cuda: rotated keys";
    }
    const std::optional<PageKind> kind = kind_of(f);
    if (!kind && (is_16_bit(k.type) || is_16_bit(v.type))) {
        return "cuda: 16-bit keys or values beside coded ones";
    }
    if (!kind && (k.axis != Axis::channel || k.symmetric)) {
        return "cuda: keys other than by channel with zero points";
    }
    if (!kind && (v.axis != Axis::token || v.symmetric != (v.group == 0))) {
        return "cuda: values other than by token, sym or ls without groups, neither in groups of 32";
    }
    if (!kind) {
        return "cuda: these bits, groups and scales together (docs/design/cuda.md, 1, lists the codecs)";
    }
    if (!has_head_dims(*kind, f)) {
        return is_of_preset(*kind) ? "cuda: head dims other than 64, 80, 96, 112, 128, 256, k 96 with v 64 and k 192 with v 128"
                                   : "cuda: head dims other than 64 and 128, of a codec that is no preset's";
    }
    if (!has_known_offsets(*kind, f)) {
        return "cuda: a record layout that the kernels were not compiled for";
    }
    return nullptr;
}

}  // namespace kvc::cuda

// Which formats this backend has kernels for, and where their parts lie in a code record.
#pragma once
#include <optional>

#include "core/codec/format.h"
#include "kernels/cuda/page_kind.h"

namespace kvc::cuda {

constexpr int group_size = 32;  // tokens of a scale of keys; of grouped values, channels

// Offsets in a code record, which kernels know at compile time.
template <PageKind kind, int KD, int VD>
struct CodeRecord {
    static constexpr int k_bits = coding<kind>.k_bits, v_bits = coding<kind>.v_bits;
    static constexpr bool grouped = coding<kind>.grouped;
    static constexpr int k_codes = 0;
    static constexpr int v_codes = KD * page_tokens / 8 * k_bits;
    static constexpr int k_meta = v_codes + VD * page_tokens / 8 * v_bits;
    static constexpr int v_meta = k_meta + KD * (grouped ? 8 : 4);
    static constexpr int v_zeros = v_meta + VD / group_size * page_tokens * 2;  // of grouped values
    static constexpr int k_super = v_meta + page_tokens * 2;                    // of all others' keys
    static constexpr int end = grouped ? v_zeros + VD / group_size * page_tokens * 2 : k_super + 8;
    static constexpr int bytes = (end + 127) / 128 * 128;
};

template <PageKind kind, int KD, int VD>
bool has_offsets_of(const LayerFormat& f) {
    using Record = CodeRecord<kind, KD, VD>;
    return f.k_dim == KD && f.v_dim == VD && f.k.codes == Record::k_codes && f.v.codes == Record::v_codes &&
           f.k.meta == Record::k_meta && f.v.meta == Record::v_meta && (Record::grouped || f.k.super == Record::k_super) &&
           f.code_bytes == Record::bytes;
}

// The format is what everybody else goes by: a kernel that would read other places must not run.
inline bool has_known_offsets(PageKind kind, const LayerFormat& f) {
#define KVC_CUDA_HAS_OFFSETS(KD, VD) || has_offsets_of<known, KD, VD>(f)
#define KVC_CUDA_KIND(name, k_bits, v_bits, grouped)           \
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
    const bool keys = !is_16_bit(k.type) && k.axis == Axis::channel && k.group == group_size && !k.symmetric;
    const bool values = !is_16_bit(v.type) && v.axis == Axis::token;
    const bool of_tokens = v.group == 0 && v.symmetric, of_groups = v.group == group_size && !v.symmetric;
    const bool grouped = !k.m8 && of_groups;
    if (!keys || !values || !(grouped || (k.m8 && of_tokens))) {
        return std::nullopt;
    }
#define KVC_CUDA_KIND(name, k_bits, v_bits, is_grouped)                                    \
    if (bits_of(k.type) == k_bits && bits_of(v.type) == v_bits && grouped == is_grouped) { \
        return PageKind::name;                                                             \
    }
    KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
    return std::nullopt;
}

// nullptr, or why there is no kernel.
inline const char* unsupported(const LayerFormat& f) {
    const std::optional<PageKind> kind = kind_of(f);
    if (!kind) {
        return "cuda: codecs other than the presets, k=intB.ch.g32.m8 with v=intC.tok and sym or ls (bits B and C of a preset, 8 and "
               "4, "
               "or 4 and 2), and k=intB.ch.g32 with v=intB.tok.g32 (B 4 or 2)";
    }
    if (!has_head_dims(*kind, f)) {
        return "cuda: head dims other than 64, 80, 96, 112, 128, 256, and k 96 with v 64, k 192 with v 128; for 8-bit keys with 4-bit "
               "values and 4-bit keys with 2-bit values other than 64 and 128";
    }
    if (!has_known_offsets(*kind, f)) {
        return "cuda: a record layout that the kernels were not compiled for";
    }
    return nullptr;
}

}  // namespace kvc::cuda

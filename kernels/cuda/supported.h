// Which formats this backend has kernels for. The one list of head dims: kernels are instantiated and chosen from it.
#pragma once
#include "core/codec/format.h"

// Instantiations of the attend kernel: X(k_dim, v_dim).
#define KVC_CUDA_HEAD_DIMS(X) X(64, 64) X(80, 80) X(96, 96) X(112, 112) X(128, 128) X(256, 256) X(96, 64) X(192, 128)

namespace kvc::cuda {

inline bool has_head_dims(const LayerFormat& f) {
#define KVC_CUDA_IS_PAIR(KD, VD) || (f.k_dim == KD && f.v_dim == VD)
    return false KVC_CUDA_HEAD_DIMS(KVC_CUDA_IS_PAIR);
#undef KVC_CUDA_IS_PAIR
}

// Offsets in a code record, which kernels know at compile time.
template <int KD, int VD>
struct CodeRecord {
    static constexpr int k_codes = 0;
    static constexpr int v_codes = KD * 32;
    static constexpr int k_meta = v_codes + VD * 32;
    static constexpr int v_meta = k_meta + KD * 4;
    static constexpr int k_super = v_meta + page_tokens * 2;
};

template <int KD, int VD>
bool has_offsets_of(const LayerFormat& f) {
    using Record = CodeRecord<KD, VD>;
    return f.k_dim == KD && f.v_dim == VD && f.k.codes == Record::k_codes && f.v.codes == Record::v_codes &&
           f.k.meta == Record::k_meta && f.v.meta == Record::v_meta && f.k.super == Record::k_super;
}

// The format is what everybody else goes by: a kernel that would read other places must not run.
inline bool has_known_offsets(const LayerFormat& f) {
#define KVC_CUDA_HAS_OFFSETS(KD, VD) || has_offsets_of<KD, VD>(f)
    return false KVC_CUDA_HEAD_DIMS(KVC_CUDA_HAS_OFFSETS);
#undef KVC_CUDA_HAS_OFFSETS
}

// nullptr, or why there is no kernel.
inline const char* unsupported(const LayerFormat& f) {
    const Codec keys{.type = CodeType::int4, .axis = Axis::channel, .group = 32, .m8 = true};
    const Codec values{.type = CodeType::int4, .axis = Axis::token, .symmetric = true, .rotate = true};
    const Codec half{};
    const bool int4 = f.codec.k == keys && f.codec.v == values;
    const bool fp16 = f.codec.k == half && f.codec.v == half;
    if (!int4 && !fp16) {
        return "cuda: codecs other than fp16 and int4 (k=int4.ch.g32.m8,v=int4.tok.rot.sym)";
    }
    if (!has_head_dims(f)) {
        return "cuda: head dims other than 64, 80, 96, 112, 128, 256, and k 96 with v 64, k 192 with v 128";
    }
    if (int4 && !has_known_offsets(f)) {
        return "cuda: a record layout that the kernels were not compiled for";
    }
    return nullptr;
}

}  // namespace kvc::cuda

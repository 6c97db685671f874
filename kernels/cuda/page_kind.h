// The kinds of pages that attention has kernels for. Kernels are instantiated, chosen and counted (gates.py) by this list.
#pragma once

// Coded pages: X(name, bits of keys, of values, tokens of a group of keys, bits of its scale and zero point, channels of a group of
// values). 8-bit scales and zero points lie under a super pair of each group; those of 16 bits are fp16. Values in groups have fp16 scales
// and zero points, others (0) one scale a token.
#define KVC_CUDA_CODED_KINDS(X)   \
    X(int8, 8, 8, 32, 8, 0)       \
    X(int4, 4, 4, 32, 8, 0)       \
    X(int3, 3, 3, 32, 8, 0)       \
    X(k3v2, 3, 2, 32, 8, 0)       \
    X(int2, 2, 2, 32, 8, 0)       \
    X(k8v4, 8, 4, 32, 8, 0)       \
    X(k4v2, 4, 2, 32, 8, 0)       \
    X(kivi4, 4, 4, 32, 16, 32)    \
    X(kivi2, 2, 2, 32, 16, 32)    \
    X(int4_g64m8, 4, 4, 64, 8, 0) \
    X(int2_g64m8, 2, 2, 64, 8, 0) \
    X(int4_g64, 4, 4, 64, 16, 0)  \
    X(int2_g64, 2, 2, 64, 16, 0)

// Instantiations of the attend kernel: X(k_dim, v_dim). What no preset has is there at 64 and 128 alone.
#if defined(KVC_CUDA_ONE_HEAD_DIM)  // a build that only tries whether the kernels compile (CMakeLists.txt)
#define KVC_CUDA_HEAD_DIMS(X) X(128, 128)
#else
#define KVC_CUDA_HEAD_DIMS(X) X(64, 64) X(80, 80) X(96, 96) X(112, 112) X(128, 128) X(256, 256) X(96, 64) X(192, 128)
#endif

namespace kvc::cuda {

enum class PageKind {
#define KVC_CUDA_KIND(name, ...) name,
    KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
        rows,   // fp16
    bf16_rows,  // bf16
};

constexpr bool is_rows(PageKind kind) { return kind == PageKind::rows || kind == PageKind::bf16_rows; }

// How scales and zero points of a page are stored.
struct Metadata {
    int k_groups;   // of the page's tokens: 1 or 2
    bool k_halves;  // fp16; otherwise 8 bits under super pairs
    bool v_groups;  // scales and zero points of 32 channels; otherwise one scale a token
};

struct PageCoding {
    int k_bits, v_bits;
    Metadata meta;
};

constexpr PageCoding coding_of(PageKind kind) {
    switch (kind) {
#define KVC_CUDA_KIND(name, k_bits, v_bits, k_group, k_meta_bits, v_group) \
    case PageKind::name:                                                   \
        return {k_bits, v_bits, {64 / k_group, k_meta_bits == 16, v_group > 0}};
        KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
    default:
        return {16, 16, {}};
    }
}

// The same for kernels, which may not call the host's functions, not even at compile time.
template <PageKind kind>
constexpr bool holds_rows = is_rows(kind);
template <PageKind kind>
constexpr PageCoding coding = coding_of(kind);

constexpr bool is_of_preset(PageKind kind) {
    return coding_of(kind).meta.k_groups != 1 && kind != PageKind::k8v4 && kind != PageKind::k4v2;
}

// Whether a kernel of this kind is instantiated for a pair of KVC_CUDA_HEAD_DIMS.
constexpr bool is_instantiated(PageKind kind, int k_dim, int v_dim) {
    if (!is_of_preset(kind)) {
        return k_dim == v_dim && (k_dim == 64 || k_dim == 128);
    }
    return !coding_of(kind).meta.v_groups || v_dim % 32 == 0;
}

}  // namespace kvc::cuda

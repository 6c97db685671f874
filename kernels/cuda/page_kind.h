// The kinds of pages that attention has kernels for. Kernels are instantiated, chosen and counted (gates.py) by this list.
#pragma once

// Coded pages: X(name, bits of keys, bits of values, grouped). Not grouped: keys with 8-bit scales and zero points of 32 tokens a channel
// under a super pair, values with one scale a token. Grouped: fp16 scales and zero points of 32 tokens or 32 channels, on both sides.
#define KVC_CUDA_CODED_KINDS(X) \
    X(int8, 8, 8, false)        \
    X(int4, 4, 4, false)        \
    X(int3, 3, 3, false)        \
    X(k3v2, 3, 2, false)        \
    X(int2, 2, 2, false) X(k8v4, 8, 4, false) X(k4v2, 4, 2, false) X(kivi4, 4, 4, true) X(kivi2, 2, 2, true)

// Instantiations of the attend kernel: X(k_dim, v_dim). Mixed widths that no preset has are there at 64 and 128 alone.
#if defined(KVC_CUDA_ONE_HEAD_DIM)  // a build that only tries whether the kernels compile (CMakeLists.txt)
#define KVC_CUDA_HEAD_DIMS(X) X(128, 128)
#else
#define KVC_CUDA_HEAD_DIMS(X) X(64, 64) X(80, 80) X(96, 96) X(112, 112) X(128, 128) X(256, 256) X(96, 64) X(192, 128)
#endif

namespace kvc::cuda {

enum class PageKind {
#define KVC_CUDA_KIND(name, k_bits, v_bits, grouped) name,
    KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
        rows,   // fp16
    bf16_rows,  // bf16
};

constexpr bool is_rows(PageKind kind) { return kind == PageKind::rows || kind == PageKind::bf16_rows; }

struct PageCoding {
    int k_bits, v_bits;
    bool grouped;
};

constexpr PageCoding coding_of(PageKind kind) {
    switch (kind) {
#define KVC_CUDA_KIND(name, k_bits, v_bits, grouped) \
    case PageKind::name:                             \
        return {k_bits, v_bits, grouped};
        KVC_CUDA_CODED_KINDS(KVC_CUDA_KIND)
#undef KVC_CUDA_KIND
    default:
        return {16, 16, false};
    }
}

// The same for kernels, which may not call the host's functions, not even at compile time.
template <PageKind kind>
constexpr bool holds_rows = is_rows(kind);
template <PageKind kind>
constexpr PageCoding coding = coding_of(kind);

// Whether a kernel of this kind is instantiated for a pair of KVC_CUDA_HEAD_DIMS.
constexpr bool is_instantiated(PageKind kind, int k_dim, int v_dim) {
    if (kind == PageKind::k8v4 || kind == PageKind::k4v2) {
        return k_dim == v_dim && (k_dim == 64 || k_dim == 128);
    }
    return !coding_of(kind).grouped || v_dim % 32 == 0;
}

}  // namespace kvc::cuda

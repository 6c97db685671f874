// Sixteen lanes at a time on AVX-512 (F, BW, DQ, VL, and VNNI where a unit is compiled for it): one register. See lanes_avx2.h for what
// the names mean.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>

// GCC 12's own header leaves registers undefined on purpose, and is warned of it wherever it is inlined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define KVC_INLINE inline __attribute__((always_inline))

namespace kvc::simd {
namespace {

struct Floats {
    __m512 a;
};
struct Ints {
    __m512i a;
};
struct Words {
    __m512i a;
};
using Dots = Ints;

// Tiles of the inner loops, chosen for 32 registers.
constexpr int row_block = 4;
constexpr int dot_chains = 1;
constexpr int float_accumulators = 8;
constexpr int tile_rows = 12;

// ---- memory ----

KVC_INLINE Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
KVC_INLINE void store(float* p, Floats x) { _mm512_storeu_ps(p, x.a); }
KVC_INLINE Floats broadcast(float x) { return {_mm512_set1_ps(x)}; }
KVC_INLINE Floats load_f16(const void* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))}; }
KVC_INLINE Floats load_bf16(const void* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
KVC_INLINE void store_f16(void* p, Floats x) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
}
KVC_INLINE Floats load_u8(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
KVC_INLINE Floats load_s8(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
KVC_INLINE Floats load_f16_pair(const void* p, const void* q) {
    return {_mm512_cvtph_ps(
        _mm256_set_m128i(_mm_loadu_si128(static_cast<const __m128i*>(q)), _mm_loadu_si128(static_cast<const __m128i*>(p))))};
}
KVC_INLINE Floats broadcast_pair(float x, float y) { return {_mm512_insertf32x8(_mm512_set1_ps(x), _mm256_set1_ps(y), 1)}; }
KVC_INLINE Words load_words(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
KVC_INLINE void store(std::byte* p, Words x) { _mm512_storeu_si512(p, x.a); }
KVC_INLINE void prefetch(const std::byte* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

// ---- floats ----

KVC_INLINE Floats add(Floats x, Floats y) { return {_mm512_add_ps(x.a, y.a)}; }
KVC_INLINE Floats sub(Floats x, Floats y) { return {_mm512_sub_ps(x.a, y.a)}; }
KVC_INLINE Floats mul(Floats x, Floats y) { return {_mm512_mul_ps(x.a, y.a)}; }
KVC_INLINE Floats div(Floats x, Floats y) { return {_mm512_div_ps(x.a, y.a)}; }
KVC_INLINE Floats max(Floats x, Floats y) { return {_mm512_max_ps(x.a, y.a)}; }
KVC_INLINE Floats min(Floats x, Floats y) { return {_mm512_min_ps(x.a, y.a)}; }
KVC_INLINE Floats fma(Floats x, Floats y, Floats z) { return {_mm512_fmadd_ps(x.a, y.a, z.a)}; }
KVC_INLINE Floats abs(Floats x) { return {_mm512_abs_ps(x.a)}; }
KVC_INLINE Floats where_at_least(Floats y, float limit, Floats x) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y.a, _mm512_set1_ps(limit), _CMP_GE_OQ), x.a)};
}
KVC_INLINE Floats choose(uint32_t mask, Floats x, Floats y) { return {_mm512_mask_blend_ps(__mmask16(mask), y.a, x.a)}; }
template <int distance>
KVC_INLINE Floats swap_lanes(Floats x) {
    if constexpr (distance == 8) {
        return {_mm512_shuffle_f32x4(x.a, x.a, 0x4e)};
    } else if constexpr (distance == 4) {
        return {_mm512_shuffle_f32x4(x.a, x.a, 0xb1)};
    } else {
        return {_mm512_permute_ps(x.a, distance == 2 ? 0x4e : 0xb1)};
    }
}
KVC_INLINE __m256 low_half(Floats x) { return _mm512_castps512_ps256(x.a); }
KVC_INLINE __m256 high_half(Floats x) { return _mm512_extractf32x8_ps(x.a, 1); }
KVC_INLINE float lane0(Floats x) { return _mm512_cvtss_f32(x.a); }
KVC_INLINE float sum_of_lanes(Floats x) {
    const __m256 eight = _mm256_add_ps(low_half(x), high_half(x));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
struct Pair {
    float first, second;
};
KVC_INLINE Pair sum_of_halves(Floats x) {
    const __m256 low = low_half(x), high = high_half(x);
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps(low, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(high), _mm256_extractf128_ps(high, 1));
    const __m128 two = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const __m128 one = _mm_add_ps(two, _mm_movehl_ps(two, two));
    return {_mm_cvtss_f32(one), _mm_cvtss_f32(_mm_movehdup_ps(one))};
}
KVC_INLINE float max_of_lanes(Floats x) {
    const __m256 eight = _mm256_max_ps(low_half(x), high_half(x));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
KVC_INLINE float min_of_lanes(Floats x) {
    const __m256 eight = _mm256_min_ps(low_half(x), high_half(x));
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

// ---- integers ----

KVC_INLINE Ints magnitude_bits(Floats x) { return {_mm512_and_si512(_mm512_castps_si512(x.a), _mm512_set1_epi32(0x7fffffff))}; }
KVC_INLINE Ints max(Ints x, Ints y) { return {_mm512_max_epi32(x.a, y.a)}; }
KVC_INLINE __m256i low_half(Ints x) { return _mm512_castsi512_si256(x.a); }
KVC_INLINE __m256i high_half(Ints x) { return _mm512_extracti64x4_epi64(x.a, 1); }
KVC_INLINE int32_t max_of_lanes(Ints x) {
    const __m256i eight = _mm256_max_epi32(low_half(x), high_half(x));
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}
KVC_INLINE Ints round_to_ints(Floats x) { return {_mm512_cvtps_epi32(x.a)}; }
KVC_INLINE Floats to_floats(Ints x) { return {_mm512_cvtepi32_ps(x.a)}; }
KVC_INLINE Floats times_two_to(Floats x, Ints n) {
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x.a), _mm512_slli_epi32(n.a, 23)))};
}
KVC_INLINE Ints sub(Ints x, int32_t y) { return {_mm512_sub_epi32(x.a, _mm512_set1_epi32(y))}; }
KVC_INLINE void store(int32_t* p, Ints x) { _mm512_storeu_si512(p, x.a); }
KVC_INLINE Ints zero_ints() { return {_mm512_setzero_si512()}; }
KVC_INLINE Ints add(Ints x, Ints y) { return {_mm512_add_epi32(x.a, y.a)}; }
KVC_INLINE int32_t sum_of_lanes(Ints x) {
    const __m256i eight = _mm256_add_epi32(low_half(x), high_half(x));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
KVC_INLINE void store_weights(int16_t* p, Ints x) {
    const __m256i swapped = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(_mm512_cvtepi32_epi16(x.a), 0xd8), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), swapped);
}

// ---- codes ----

template <int shift, int mask>
KVC_INLINE Words word_bits(Words x) {
    const __m512i m = _mm512_set1_epi16(int16_t(mask));
    if constexpr (shift < 0) {
        return {_mm512_and_si512(_mm512_slli_epi16(x.a, -shift), m)};
    } else if constexpr (shift == 0) {
        return {_mm512_and_si512(x.a, m)};
    } else if constexpr (0xffff >> shift == mask) {
        return {_mm512_srli_epi16(x.a, shift)};
    } else {
        return {_mm512_and_si512(_mm512_srli_epi16(x.a, shift), m)};
    }
}
KVC_INLINE Words bytes_of(Ints x0, Ints x1, Ints x2, Ints x3) {
    return {_mm512_or_si512(_mm512_or_si512(x0.a, _mm512_slli_epi32(x1.a, 8)),
                            _mm512_or_si512(_mm512_slli_epi32(x2.a, 16), _mm512_slli_epi32(x3.a, 24)))};
}
KVC_INLINE Words word_shift(Words x, int shift) { return {_mm512_srl_epi16(x.a, _mm_cvtsi32_si128(shift))}; }
KVC_INLINE Words either(Words x, Words y) { return {_mm512_or_si512(x.a, y.a)}; }
template <int shift, int mask>
KVC_INLINE Ints lane_bits(Words x) {
    const __m512i m = _mm512_set1_epi32(mask);
    if constexpr (shift < 0) {
        return {_mm512_and_si512(_mm512_slli_epi32(x.a, -shift), m)};
    } else {
        return {_mm512_and_si512(_mm512_srli_epi32(x.a, shift), m)};
    }
}

KVC_INLINE Dots zero_dots() { return zero_ints(); }
KVC_INLINE Dots dot(Dots sum, Words x, const int16_t* p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
#if defined(__AVX512VNNI__)
    return {_mm512_dpwssd_epi32(sum.a, x.a, _mm512_set1_epi32(pair))};
#else
    return {_mm512_add_epi32(sum.a, _mm512_madd_epi16(x.a, _mm512_set1_epi32(pair)))};
#endif
}
KVC_INLINE Dots merge(Dots x, Dots y) { return add(x, y); }
KVC_INLINE Ints total(Dots sum) { return sum; }

}  // namespace
}  // namespace kvc::simd

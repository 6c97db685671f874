// Sixteen lanes at a time on AVX2 with FMA and F16C: two registers stand side by side.
// The bodies of the kernels are written over these names alone; lanes_neon.h defines the same ones.
// Every function is exact or rounds once per lane, and sums of lanes follow one tree, so all targets compute the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>

#define KVC_INLINE inline __attribute__((always_inline))

namespace kvc::simd {
namespace {

struct Floats {  // 16 floats
    __m256 a, b;
};
struct Ints {  // 16 times int32
    __m256i a, b;
};
struct Words {  // 64 bytes: 16 lanes of two int16, or of four bytes
    __m256i a, b;
};
using Dots = Ints;  // 16 running sums of products of words

// Tiles of the inner loops, chosen for 16 registers.
constexpr int row_block = 4;           // query rows that share the codes they are multiplied with
constexpr int dot_chains = 1;          // integer sums that take turns, to hide the latency of a multiplication that adds
constexpr int float_accumulators = 4;  // rows times blocks of 16 lanes in a sum of floats
constexpr int tile_rows = 6;           // rows that share an f32 tile

// ---- memory ----

KVC_INLINE Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
KVC_INLINE void store(float* p, Floats x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
KVC_INLINE Floats broadcast(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return {v, v};
}
KVC_INLINE Floats load_f16(const void* p) {
    const auto* half = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(half)), _mm256_cvtph_ps(_mm_loadu_si128(half + 1))};
}
KVC_INLINE Floats load_bf16(const void* p) {
    const auto* half = static_cast<const __m128i*>(p);
    const __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(half)), b = _mm256_cvtepu16_epi32(_mm_loadu_si128(half + 1));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
// Rounds half to even.
KVC_INLINE void store_f16(void* p, Floats x) {
    auto* half = static_cast<__m128i*>(p);
    _mm_storeu_si128(half, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(half + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
KVC_INLINE Floats load_u8(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}
KVC_INLINE Floats load_s8(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}
// Eight numbers at p in lanes 0 to 7, eight at q in lanes 8 to 15.
KVC_INLINE Floats load_f16_pair(const void* p, const void* q) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(q)))};
}
KVC_INLINE Floats broadcast_pair(float x, float y) { return {_mm256_set1_ps(x), _mm256_set1_ps(y)}; }
KVC_INLINE Words load_words(const std::byte* p) {
    const auto* bytes = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(bytes), _mm256_loadu_si256(bytes + 1)};
}
KVC_INLINE void store(std::byte* p, Words x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), x.b);
}
KVC_INLINE void prefetch(const std::byte* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

// ---- floats ----

KVC_INLINE Floats add(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
KVC_INLINE Floats sub(Floats x, Floats y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
KVC_INLINE Floats mul(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
KVC_INLINE Floats div(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
KVC_INLINE Floats max(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
KVC_INLINE Floats min(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
// x * y + z, rounded once.
KVC_INLINE Floats fma(Floats x, Floats y, Floats z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
KVC_INLINE Floats abs(Floats x) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    return {_mm256_and_ps(x.a, magnitude), _mm256_and_ps(x.b, magnitude)};
}
// x where limit <= y, otherwise 0.
KVC_INLINE Floats where_at_least(Floats y, float limit, Floats x) {
    const __m256 bound = _mm256_set1_ps(limit);
    return {_mm256_and_ps(_mm256_cmp_ps(y.a, bound, _CMP_GE_OQ), x.a), _mm256_and_ps(_mm256_cmp_ps(y.b, bound, _CMP_GE_OQ), x.b)};
}
// x in the lanes whose bit is set in mask, otherwise y; what the lanes not taken hold, NaN included, does not matter.
KVC_INLINE Floats choose(uint32_t mask, Floats x, Floats y) {
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i low = _mm256_set1_epi32(int(mask)), high = _mm256_set1_epi32(int(mask >> 8));
    const __m256i a = _mm256_cmpeq_epi32(_mm256_and_si256(low, bits), bits), b = _mm256_cmpeq_epi32(_mm256_and_si256(high, bits), bits);
    return {_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(a)), _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(b))};
}
// Lane i gets what lane i ^ distance held.
template <int distance>
KVC_INLINE Floats swap_lanes(Floats x) {
    if constexpr (distance == 8) {
        return {x.b, x.a};
    } else if constexpr (distance == 4) {
        return {_mm256_permute2f128_ps(x.a, x.a, 1), _mm256_permute2f128_ps(x.b, x.b, 1)};
    } else {
        constexpr int order = distance == 2 ? 0x4e : 0xb1;
        return {_mm256_permute_ps(x.a, order), _mm256_permute_ps(x.b, order)};
    }
}
KVC_INLINE float lane0(Floats x) { return _mm256_cvtss_f32(x.a); }
// Sums lanes i and i + 8, then i and i + 4, i and i + 2, i and i + 1.
KVC_INLINE float sum_of_lanes(Floats x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
struct Pair {
    float first, second;
};
// The same sum of lanes 0 to 7, and of lanes 8 to 15: i and i + 4, then i and i + 2, i and i + 1.
KVC_INLINE Pair sum_of_halves(Floats x) {
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(x.a), _mm256_extractf128_ps(x.a, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x.b), _mm256_extractf128_ps(x.b, 1));
    const __m128 two = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const __m128 one = _mm_add_ps(two, _mm_movehl_ps(two, two));
    return {_mm_cvtss_f32(one), _mm_cvtss_f32(_mm_movehdup_ps(one))};
}
KVC_INLINE float max_of_lanes(Floats x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

KVC_INLINE float min_of_lanes(Floats x) {
    const __m256 eight = _mm256_min_ps(x.a, x.b);
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

// ---- integers ----

// The bits of |x|: ordered as the numbers are, with infinity and NaN above all.
KVC_INLINE Ints magnitude_bits(Floats x) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    return {_mm256_and_si256(_mm256_castps_si256(x.a), magnitude), _mm256_and_si256(_mm256_castps_si256(x.b), magnitude)};
}
KVC_INLINE Ints max(Ints x, Ints y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
KVC_INLINE int32_t max_of_lanes(Ints x) {
    const __m256i eight = _mm256_max_epi32(x.a, x.b);
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}

KVC_INLINE Ints round_to_ints(Floats x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
KVC_INLINE Floats to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
// x * 2^n for results that are normal numbers.
KVC_INLINE Floats times_two_to(Floats x, Ints n) {
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.a), _mm256_slli_epi32(n.a, 23))),
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.b), _mm256_slli_epi32(n.b, 23)))};
}
KVC_INLINE Ints sub(Ints x, int32_t y) {
    const __m256i v = _mm256_set1_epi32(y);
    return {_mm256_sub_epi32(x.a, v), _mm256_sub_epi32(x.b, v)};
}
KVC_INLINE void store(int32_t* p, Ints x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
KVC_INLINE Ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
KVC_INLINE Ints add(Ints x, Ints y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
KVC_INLINE int32_t sum_of_lanes(Ints x) {
    const __m256i eight = _mm256_add_epi32(x.a, x.b);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
// Sixteen numbers that fit int16, as weights of an integer dot product: of each four, in the order 0, 2, 1, 3.
KVC_INLINE void store_weights(int16_t* p, Ints x) {
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    const __m256i swapped = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(packed, 0xd8), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), swapped);
}

// ---- codes: 16 lanes of four bytes; byte j holds the numbers j, j + 4, j + 8... of the dimension that is summed over ----

// Bits of every word shifted right (left if negative), then masked.
template <int shift, int mask>
KVC_INLINE Words word_bits(Words x) {
    const __m256i m = _mm256_set1_epi16(int16_t(mask));
    if constexpr (shift < 0) {
        return {_mm256_and_si256(_mm256_slli_epi16(x.a, -shift), m), _mm256_and_si256(_mm256_slli_epi16(x.b, -shift), m)};
    } else if constexpr (shift == 0) {
        return {_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
    } else if constexpr (0xffff >> shift == mask) {
        return {_mm256_srli_epi16(x.a, shift), _mm256_srli_epi16(x.b, shift)};
    } else {
        return {_mm256_and_si256(_mm256_srli_epi16(x.a, shift), m), _mm256_and_si256(_mm256_srli_epi16(x.b, shift), m)};
    }
}
// Four numbers below 256 in the bytes of every lane.
KVC_INLINE Words bytes_of(Ints x0, Ints x1, Ints x2, Ints x3) {
    const __m256i a = _mm256_or_si256(_mm256_or_si256(x0.a, _mm256_slli_epi32(x1.a, 8)),
                                      _mm256_or_si256(_mm256_slli_epi32(x2.a, 16), _mm256_slli_epi32(x3.a, 24)));
    const __m256i b = _mm256_or_si256(_mm256_or_si256(x0.b, _mm256_slli_epi32(x1.b, 8)),
                                      _mm256_or_si256(_mm256_slli_epi32(x2.b, 16), _mm256_slli_epi32(x3.b, 24)));
    return {a, b};
}
KVC_INLINE Words word_shift(Words x, int shift) {
    const __m128i count = _mm_cvtsi32_si128(shift);
    return {_mm256_srl_epi16(x.a, count), _mm256_srl_epi16(x.b, count)};
}
KVC_INLINE Words either(Words x, Words y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
// The same of every 32-bit lane, as a number.
template <int shift, int mask>
KVC_INLINE Ints lane_bits(Words x) {
    const __m256i m = _mm256_set1_epi32(mask);
    if constexpr (shift < 0) {
        return {_mm256_and_si256(_mm256_slli_epi32(x.a, -shift), m), _mm256_and_si256(_mm256_slli_epi32(x.b, -shift), m)};
    } else {
        return {_mm256_and_si256(_mm256_srli_epi32(x.a, shift), m), _mm256_and_si256(_mm256_srli_epi32(x.b, shift), m)};
    }
}

KVC_INLINE Dots zero_dots() { return zero_ints(); }
// Adds, in each lane, both words times the two weights at p.
KVC_INLINE Dots dot(Dots sum, Words x, const int16_t* p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    const __m256i weights = _mm256_set1_epi32(pair);
    sum = {_mm256_add_epi32(sum.a, _mm256_madd_epi16(x.a, weights)), _mm256_add_epi32(sum.b, _mm256_madd_epi16(x.b, weights))};
    // The compiler would rather add the products among themselves first, which takes more registers than there are.
    asm("" : "+x"(sum.a), "+x"(sum.b));
    return sum;
}
KVC_INLINE Dots merge(Dots x, Dots y) { return add(x, y); }
KVC_INLINE Ints total(Dots sum) { return sum; }

}  // namespace
}  // namespace kvc::simd

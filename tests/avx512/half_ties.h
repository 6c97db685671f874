// Bochs 2.7 rounds numbers that lie in the middle of two halves up, where VCVTPS2PH rounds them to the even one (its
// roundAndPackFloat16 looks for the tie at bit 4 of four). The units under test are therefore compiled with this file ahead of them: the
// instruction gets the number that it should arrive at, rounded by others. half_ties.cpp holds the bare instruction to everything else.
#pragma once
#include <cstdint>
#include <immintrin.h>

namespace kvc_test {
namespace {

template <int rounding>
inline __attribute__((always_inline)) __m256i to_halves(__m512 x) {
    static_assert(rounding == _MM_FROUND_TO_NEAREST_INT, "halves are rounded to the nearest, ties to even");
    const __m512i bits = _mm512_castps_si512(x), sign = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN));
    const __m512i size = _mm512_andnot_si512(_mm512_set1_epi32(INT32_MIN), bits);
    // The 13 bits that a half does not have, rounded away in integers.
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(size, 13), _mm512_set1_epi32(1));
    const __m512i carried = _mm512_add_epi32(size, _mm512_add_epi32(odd, _mm512_set1_epi32(0xfff)));
    const __m512i normal = _mm512_and_si512(carried, _mm512_set1_epi32(~0x1fff));
    // Below 2^-14 halves are multiples of 2^-24, as the numbers from 0.5 to 1 are.
    const __m512 half = _mm512_set1_ps(0.5f);
    const __m512 subnormal = _mm512_sub_ps(_mm512_add_ps(_mm512_castsi512_ps(size), half), half);
    const __mmask16 small = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(0x38800000));
    const __mmask16 number = _mm512_cmple_epi32_mask(size, _mm512_set1_epi32(0x7f800000));
    const __m512i rounded = _mm512_or_si512(_mm512_mask_mov_epi32(normal, small, _mm512_castps_si512(subnormal)), sign);
    return _mm512_cvtps_ph(_mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, number, rounded)), rounding);
}

}  // namespace
}  // namespace kvc_test

#define _mm512_cvtps_ph(x, rounding) kvc_test::to_halves<rounding>(x)

// The bare instruction that rounds to halves, without half_ties.h: right for all but the middles of two halves.
#include <cmath>
#include <doctest/doctest.h>
#include <immintrin.h>
#include <initializer_list>

#include "core/base/half.h"

// GCC 12's own header leaves registers undefined on purpose, and is warned of it wherever it is inlined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace {

[[gnu::target("avx512f")]] uint16_t rounded(float x) {
    uint16_t halves[16];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(halves), _mm512_cvtps_ph(_mm512_set1_ps(x), _MM_FROUND_TO_NEAREST_INT));
    return halves[0];
}

}  // namespace

TEST_CASE("half ties: beside the middle of every two neighbouring halves the instruction rounds to the nearer one") {
    for (const float sign : {1.0f, -1.0f}) {
        for (uint16_t half = 0; half < 0x7bff; ++half) {
            const float low = kvc::f32_from_f16(half), high = kvc::f32_from_f16(uint16_t(half + 1)), middle = (low + high) / 2;
            const uint16_t sign_bit = sign < 0 ? 0x8000 : 0;
            REQUIRE(rounded(sign * std::nextafterf(middle, 0)) == (half | sign_bit));
            REQUIRE(rounded(sign * std::nextafterf(middle, HUGE_VALF)) == ((half + 1) | sign_bit));
        }
    }
}

TEST_CASE("half ties: this emulator still rounds them up; once it does not, half_ties.h has no purpose") {
    CHECK(rounded(2049.0f) == 0x6801);
    CHECK(rounded(0x1p-25f) == 0x0001);
}

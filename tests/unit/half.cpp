// The 16-bit types against definitions that share nothing with half.h: values built with ldexp, rounding by search for the nearest.
#include "core/base/half.h"

#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>

namespace {

// What the bits mean, by the standard's definition.
double value_of_f16(int h) {
    const int exponent = (h >> 10) & 31, mantissa = h & 1023;
    const double sign = h & 0x8000 ? -1.0 : 1.0;
    if (exponent == 31) {
        return mantissa ? std::nan("") : sign * HUGE_VAL;
    }
    return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

uint16_t bits16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return uint16_t(bits >> 16);
}

}  // namespace

TEST_CASE("half: every fp16 value converts to the number that its bits mean, and back to its bits") {
    for (int h = 0; h < 65536; ++h) {
        const float x = kvc::f32_from_f16(uint16_t(h));
        const double expected = value_of_f16(h);
        if (std::isnan(expected)) {
            REQUIRE(std::isnan(x));
            REQUIRE(std::isnan(kvc::f32_from_f16(kvc::f16_from_f32(x))));
        } else {
            REQUIRE(double(x) == expected);
            REQUIRE(std::signbit(x) == ((h & 0x8000) != 0));
            REQUIRE(kvc::f16_from_f32(x) == h);
        }
    }
}

TEST_CASE("half: between two fp16 neighbours the nearer one wins, and the even one in the middle") {
    for (int h = 0; h < 0x7bff; ++h) {
        const float low = float(value_of_f16(h)), high = float(value_of_f16(h + 1));
        const float middle = (low + high) / 2;  // exact: one more bit than fp16 has
        const uint16_t even = uint16_t(h % 2 == 0 ? h : h + 1);
        REQUIRE(kvc::f16_from_f32(middle) == even);
        REQUIRE(kvc::f16_from_f32(std::nextafter(middle, 0.0f)) == h);
        REQUIRE(kvc::f16_from_f32(std::nextafter(middle, HUGE_VALF)) == h + 1);
        REQUIRE(kvc::f16_from_f32(-middle) == (even | 0x8000));
    }
}

TEST_CASE("half: beyond the largest fp16 number by half a step or more is infinity") {
    CHECK(kvc::f16_from_f32(65504.0f) == 0x7bff);
    CHECK(kvc::f16_from_f32(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
    CHECK(kvc::f16_from_f32(65520.0f) == 0x7c00);
    CHECK(kvc::f16_from_f32(-65536.0f) == 0xfc00);
    CHECK(kvc::f16_from_f32(std::numeric_limits<float>::max()) == 0x7c00);
    CHECK(kvc::f16_from_f32(std::numeric_limits<float>::denorm_min()) == 0);
    CHECK(kvc::f16_from_f32(-0.0f) == 0x8000);
}

TEST_CASE("half: bf16 keeps the upper half of an f32, rounded half to even") {
    for (int h = 0; h < 65536; ++h) {
        const float x = kvc::f32_from_bf16(uint16_t(h));
        REQUIRE(bits16(x) == h);
        if (!std::isnan(x)) {
            REQUIRE(kvc::bf16_from_f32(x) == h);
        } else {
            REQUIRE(std::isnan(kvc::f32_from_bf16(kvc::bf16_from_f32(x))));
        }
    }
    CHECK(kvc::bf16_from_f32(1.0f + 0x1p-8f) == 0x3f80);             // half way: down to even
    CHECK(kvc::bf16_from_f32(1.0f + 0x1p-7f + 0x1p-8f) == 0x3f82);   // half way: up to even
    CHECK(kvc::bf16_from_f32(1.0f + 0x1p-8f + 0x1p-20f) == 0x3f81);  // above half way
    CHECK(kvc::bf16_from_f32(std::numeric_limits<float>::max()) == 0x7f80);
    CHECK(kvc::f32_from_bf16(kvc::bf16_from_f32(kvc::bf16_max)) == kvc::bf16_max);
}

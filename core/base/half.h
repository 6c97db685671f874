// The 16-bit number types, in integer arithmetic: the same bits on every machine, rounded half to even.
#pragma once
#include <bit>
#include <cstdint>

namespace kvc {

constexpr float f16_max = 65504.0f;
constexpr float f16_least = 0x1p-24f;  // the smallest subnormal
constexpr float bf16_max = 0x1.fep127f;

// Always inlined: these run in translation units built for different instruction sets, and the linker must not
// pick one copy for all of them.
#define KVC_HALF [[gnu::always_inline]] inline constexpr

// Written without branches, so that loops over it become vector code.
KVC_HALF float f32_from_f16(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000u) << 16;
    const uint32_t rest = h & 0x7fffu;
    const uint32_t normal = (rest << 13) + (rest >= 0x7c00u ? 224u << 23 : 112u << 23);
    const uint32_t subnormal = std::bit_cast<uint32_t>(float(int32_t(rest)) * f16_least);
    return std::bit_cast<float>(sign | (rest < 0x400u ? subnormal : normal));
}

// Beyond the range: infinity. A NaN stays one.
KVC_HALF uint16_t f16_from_f32(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t rest = bits & 0x7fffffffu;
    // A carry out of the mantissa lands in the exponent, as it should, up to infinity.
    const uint32_t normal = (rest + 0xfffu + ((rest >> 13) & 1u) - (112u << 23)) >> 13;
    // One unit in the last place of 0.5 is the smallest subnormal, so the addition does the rounding.
    const uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(rest) + 0.5f) - 0x3f000000u;
    const uint32_t huge = rest > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = rest < 0x38800000u ? subnormal : normal;
    return uint16_t(sign | (rest >= 0x47800000u ? huge : finite));
}

KVC_HALF float f32_from_bf16(uint16_t h) { return std::bit_cast<float>(uint32_t(h) << 16); }

KVC_HALF uint16_t bf16_from_f32(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    return uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

#undef KVC_HALF

}  // namespace kvc

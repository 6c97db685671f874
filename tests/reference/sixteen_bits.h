// fp16 and bf16 by their definition (a quantum per binade, ties to even), in double, sharing nothing with the library.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace kvc_reference {

// The nearest multiple of 2^quantum of the binade; infinity beyond the largest number.
inline double round_binary(double x, int significant_bits, int least_exponent, double largest) {
    if (x == 0 || !std::isfinite(x)) return x;
    const int exponent = std::max(std::ilogb(x), least_exponent);
    const double quantum = std::ldexp(1.0, exponent - significant_bits + 1);
    const double rounded = std::nearbyint(x / quantum) * quantum;
    return std::fabs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

inline double round_to_half(double x) { return round_binary(x, 11, -14, 65504.0); }
inline double round_to_bfloat(double x) { return round_binary(x, 8, -126, 0x1.FEp127); }

inline double half_value(uint16_t bits) {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
}

inline double bfloat_value(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Bits of a number that fp16 (bf16) can hold exactly.
inline uint16_t half_bits(double x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    const double size = std::fabs(x);
    if (size == 0) return sign;
    if (std::isnan(x)) return 0x7e00;
    if (std::isinf(x)) return static_cast<uint16_t>(sign | 0x7c00);
    if (size < 0x1p-14) return static_cast<uint16_t>(sign | static_cast<int>(size * 0x1p24));
    const int exponent = std::ilogb(size);
    return static_cast<uint16_t>(sign | (exponent + 15) << 10 | (static_cast<int>(std::ldexp(size, 10 - exponent)) - 1024));
}

inline uint16_t bfloat_bits(double x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(x)) >> 16); }

}  // namespace kvc_reference

// e^x and tanh for 16 lanes; polynomials, so that every target computes the same bits.
#pragma once

namespace kvc::simd {
namespace {

// Below this e^x is 0: nothing of it is left beside the maximum's e^0.
constexpr float least_exponent = -87.0f;

// e^x for x <= 88, within 2 units in the last place; exactly 1 at 0, and 0 below least_exponent (-inf included).
KVC_INLINE Floats exponential(Floats x) {
    const Floats clamped = max(x, broadcast(least_exponent));
    const Ints n = round_to_ints(mul(clamped, broadcast(1.44269504f)));
    const Floats whole = to_floats(n);
    // ln 2 in two parts; the product with the first one, which has 15 bits, is exact.
    Floats r = fma(whole, broadcast(-0x1.62e4p-1f), clamped);
    r = fma(whole, broadcast(-0x1.7f7d1cp-20f), r);
    // Least relative error on [-ln 2 / 2, ln 2 / 2] with the first two coefficients fixed to 1.
    Floats p = broadcast(0x1.6a23d0p-10f);
    p = fma(p, r, broadcast(0x1.123a20p-7f));
    p = fma(p, r, broadcast(0x1.5558f2p-5f));
    p = fma(p, r, broadcast(0x1.555492p-3f));
    p = fma(p, r, broadcast(0x1.fffffcp-2f));
    p = fma(p, r, broadcast(1.0f));
    p = fma(p, r, broadcast(1.0f));
    return where_at_least(x, least_exponent, times_two_to(p, n));
}

KVC_INLINE float exponential(float x) { return lane0(exponential(broadcast(x))); }

// cap * tanh(x / cap), the soft cap of logits.
KVC_INLINE Floats soft_capped(Floats x, float cap) {
    // tanh(y) = 1 - 2 / (e^2y + 1) is 1 in float from 9.1 on.
    const Floats twice = mul(x, broadcast(2.0f / cap));
    const Floats e = exponential(min(max(twice, broadcast(-20.0f)), broadcast(20.0f)));
    return mul(broadcast(cap), sub(broadcast(1.0f), div(broadcast(2.0f), add(e, broadcast(1.0f)))));
}

}  // namespace
}  // namespace kvc::simd

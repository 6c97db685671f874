// Rounding of query and probability rows to int16 weights of integer dot products.
#pragma once

namespace kvc::simd {
namespace {

constexpr float weight_limit = 32767.0f;  // times 255 times 256 channels stays below 2^31: no sum of a page overflows

struct Weights {
    float unit;   // x = unit * weight, within half a unit
    int32_t sum;  // of all weights
};

// Rounds x [n], n a multiple of 16, to weights; largest holds in its lanes the magnitudes' maxima. All zeros give unit 0.
KVC_INLINE Weights quantize_weights(const float* x, Floats largest, int64_t n, int16_t* weights) {
    const float limit = max_of_lanes(largest);
    if (!(limit > 0.0f)) {
        memset(weights, 0, size_t(n) * sizeof *weights);
        return {0.0f, 0};
    }
    // A denormal maximum would have an infinite inverse; such a row is below any number that a logit can show.
    const Floats inverse = broadcast(weight_limit / (limit > 0x1p-100f ? limit : 0x1p-100f));
    Ints sum = zero_ints();
    for (int64_t i = 0; i < n; i += 16) {
        const Ints rounded = round_to_ints(mul(load(x + i), inverse));
        store_weights(weights + i, rounded);
        sum = add(sum, rounded);
    }
    return {(limit > 0x1p-100f ? limit : 0x1p-100f) / weight_limit, sum_of_lanes(sum)};
}

// What a sum of weight * code means: unit * (sum - shift) + bias.
struct Affine {
    float unit;
    int32_t shift;
    float bias;
};

KVC_INLINE Floats apply(Affine a, Ints sums) { return fma(to_floats(sub(sums, a.shift)), broadcast(a.unit), broadcast(a.bias)); }

}  // namespace
}  // namespace kvc::simd

// Sixteen lanes at a time on NEON: four registers. See lanes_avx2.h for what the names mean.
#pragma once
#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define KVC_INLINE inline __attribute__((always_inline))

namespace kvc::simd {
namespace {

struct Floats {
    float32x4_t v[4];
};
struct Ints {
    int32x4_t v[4];
};
struct Words {
    uint16x8_t v[4];
};
// Sums of the products of each word: a lane's two words have a sum each, added up at the end.
struct Dots {
    int32x4_t v[8];
};

// Tiles of the inner loops, chosen for 32 registers.
constexpr int row_block = 2;
constexpr int dot_chains = 1;
constexpr int float_accumulators = 4;
constexpr int tile_rows = 6;

// Applies an operation to each of the four registers.
template <class Out, class Op>
KVC_INLINE Out each(const Op& op) {
    return {{op(0), op(1), op(2), op(3)}};
}

// ---- memory ----

KVC_INLINE Floats load(const float* p) {
    return each<Floats>([&](int i) { return vld1q_f32(p + 4 * i); });
}
KVC_INLINE void store(float* p, Floats x) {
    vst1q_f32(p, x.v[0]);
    vst1q_f32(p + 4, x.v[1]);
    vst1q_f32(p + 8, x.v[2]);
    vst1q_f32(p + 12, x.v[3]);
}
KVC_INLINE Floats broadcast(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
}
KVC_INLINE float32x4_t widen_f16(uint16x4_t x) { return vcvt_f32_f16(vreinterpret_f16_u16(x)); }
KVC_INLINE Floats load_f16(const void* p) {
    const auto* half = static_cast<const uint16_t*>(p);
    return each<Floats>([&](int i) { return widen_f16(vld1_u16(half + 4 * i)); });
}
KVC_INLINE Floats load_bf16(const void* p) {
    const auto* half = static_cast<const uint16_t*>(p);
    return each<Floats>([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(half + 4 * i), 16)); });
}
KVC_INLINE void store_f16(void* p, Floats x) {
    auto* half = static_cast<uint16_t*>(p);
    vst1_u16(half, vreinterpret_u16_f16(vcvt_f16_f32(x.v[0])));
    vst1_u16(half + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.v[1])));
    vst1_u16(half + 8, vreinterpret_u16_f16(vcvt_f16_f32(x.v[2])));
    vst1_u16(half + 12, vreinterpret_u16_f16(vcvt_f16_f32(x.v[3])));
}
KVC_INLINE Floats load_u8(const uint8_t* p) {
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
             vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
}
KVC_INLINE Floats load_s8(const uint8_t* p) {
    const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
KVC_INLINE Floats load_f16_pair(const void* p, const void* q) {
    const auto *first = static_cast<const uint16_t*>(p), *second = static_cast<const uint16_t*>(q);
    return {{widen_f16(vld1_u16(first)), widen_f16(vld1_u16(first + 4)), widen_f16(vld1_u16(second)), widen_f16(vld1_u16(second + 4))}};
}
KVC_INLINE Floats broadcast_pair(float x, float y) {
    const float32x4_t a = vdupq_n_f32(x), b = vdupq_n_f32(y);
    return {{a, a, b, b}};
}
KVC_INLINE Words load_words(const std::byte* p) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(p);
    return each<Words>([&](int i) { return vreinterpretq_u16_u8(vld1q_u8(bytes + 16 * i)); });
}
KVC_INLINE void store(std::byte* p, Words x) {
    auto* bytes = reinterpret_cast<uint8_t*>(p);
    vst1q_u8(bytes, vreinterpretq_u8_u16(x.v[0]));
    vst1q_u8(bytes + 16, vreinterpretq_u8_u16(x.v[1]));
    vst1q_u8(bytes + 32, vreinterpretq_u8_u16(x.v[2]));
    vst1q_u8(bytes + 48, vreinterpretq_u8_u16(x.v[3]));
}
KVC_INLINE void prefetch(const std::byte* p) { __builtin_prefetch(p); }

// ---- floats ----

KVC_INLINE Floats add(Floats x, Floats y) {
    return each<Floats>([&](int i) { return vaddq_f32(x.v[i], y.v[i]); });
}
KVC_INLINE Floats sub(Floats x, Floats y) {
    return each<Floats>([&](int i) { return vsubq_f32(x.v[i], y.v[i]); });
}
KVC_INLINE Floats mul(Floats x, Floats y) {
    return each<Floats>([&](int i) { return vmulq_f32(x.v[i], y.v[i]); });
}
KVC_INLINE Floats div(Floats x, Floats y) {
    return each<Floats>([&](int i) { return vdivq_f32(x.v[i], y.v[i]); });
}
KVC_INLINE Floats max(Floats x, Floats y) {
    return each<Floats>([&](int i) { return vmaxq_f32(x.v[i], y.v[i]); });
}
KVC_INLINE Floats min(Floats x, Floats y) {
    return each<Floats>([&](int i) { return vminq_f32(x.v[i], y.v[i]); });
}
KVC_INLINE Floats fma(Floats x, Floats y, Floats z) {
    return each<Floats>([&](int i) { return vfmaq_f32(z.v[i], x.v[i], y.v[i]); });
}
KVC_INLINE Floats abs(Floats x) {
    return each<Floats>([&](int i) { return vabsq_f32(x.v[i]); });
}
KVC_INLINE Floats where_at_least(Floats y, float limit, Floats x) {
    const float32x4_t bound = vdupq_n_f32(limit);
    return each<Floats>(
        [&](int i) { return vreinterpretq_f32_u32(vandq_u32(vcgeq_f32(y.v[i], bound), vreinterpretq_u32_f32(x.v[i]))); });
}
KVC_INLINE Floats choose(uint32_t mask, Floats x, Floats y) {
    static constexpr uint32_t bits[4] = {1, 2, 4, 8};
    const uint32x4_t bit = vld1q_u32(bits);
    return each<Floats>([&](int i) { return vbslq_f32(vtstq_u32(vdupq_n_u32(mask >> (4 * i)), bit), x.v[i], y.v[i]); });
}
template <int distance>
KVC_INLINE Floats swap_lanes(Floats x) {
    if constexpr (distance >= 4) {
        return each<Floats>([&](int i) { return x.v[i ^ (distance / 4)]; });
    } else if constexpr (distance == 2) {
        return each<Floats>([&](int i) { return vextq_f32(x.v[i], x.v[i], 2); });
    } else {
        return each<Floats>([&](int i) { return vrev64q_f32(x.v[i]); });
    }
}
KVC_INLINE float lane0(Floats x) { return vgetq_lane_f32(x.v[0], 0); }
KVC_INLINE float sum_of_four(float32x4_t four) {
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(vpadd_f32(two, two), 0);
}
KVC_INLINE float sum_of_lanes(Floats x) { return sum_of_four(vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]))); }
struct Pair {
    float first, second;
};
KVC_INLINE Pair sum_of_halves(Floats x) { return {sum_of_four(vaddq_f32(x.v[0], x.v[1])), sum_of_four(vaddq_f32(x.v[2], x.v[3]))}; }
KVC_INLINE float max_of_lanes(Floats x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[1]), vmaxq_f32(x.v[2], x.v[3]))); }
KVC_INLINE float min_of_lanes(Floats x) { return vminvq_f32(vminq_f32(vminq_f32(x.v[0], x.v[1]), vminq_f32(x.v[2], x.v[3]))); }

// ---- integers ----

KVC_INLINE Ints magnitude_bits(Floats x) {
    return each<Ints>([&](int i) { return vandq_s32(vreinterpretq_s32_f32(x.v[i]), vdupq_n_s32(0x7fffffff)); });
}
KVC_INLINE Ints max(Ints x, Ints y) {
    return each<Ints>([&](int i) { return vmaxq_s32(x.v[i], y.v[i]); });
}
KVC_INLINE int32_t max_of_lanes(Ints x) { return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.v[0], x.v[1]), vmaxq_s32(x.v[2], x.v[3]))); }
KVC_INLINE Ints round_to_ints(Floats x) {
    return each<Ints>([&](int i) { return vcvtnq_s32_f32(x.v[i]); });
}
KVC_INLINE Floats to_floats(Ints x) {
    return each<Floats>([&](int i) { return vcvtq_f32_s32(x.v[i]); });
}
KVC_INLINE Floats times_two_to(Floats x, Ints n) {
    return each<Floats>(
        [&](int i) { return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x.v[i]), vshlq_n_s32(n.v[i], 23))); });
}
KVC_INLINE Ints sub(Ints x, int32_t y) {
    return each<Ints>([&](int i) { return vsubq_s32(x.v[i], vdupq_n_s32(y)); });
}
KVC_INLINE void store(int32_t* p, Ints x) {
    vst1q_s32(p, x.v[0]);
    vst1q_s32(p + 4, x.v[1]);
    vst1q_s32(p + 8, x.v[2]);
    vst1q_s32(p + 12, x.v[3]);
}
KVC_INLINE Ints zero_ints() {
    const int32x4_t zero = vdupq_n_s32(0);
    return {{zero, zero, zero, zero}};
}
KVC_INLINE Ints add(Ints x, Ints y) {
    return each<Ints>([&](int i) { return vaddq_s32(x.v[i], y.v[i]); });
}
KVC_INLINE int32_t sum_of_lanes(Ints x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3]))); }
KVC_INLINE void store_weights(int16_t* p, Ints x) {
    const auto swapped = [](int32x4_t four) {
        const int16x4_t narrow = vqmovn_s32(four);
        const int16x4_t even = vuzp1_s16(narrow, narrow), odd = vuzp2_s16(narrow, narrow);
        return vreinterpret_s16_s32(vzip1_s32(vreinterpret_s32_s16(even), vreinterpret_s32_s16(odd)));
    };
    vst1_s16(p, swapped(x.v[0]));
    vst1_s16(p + 4, swapped(x.v[1]));
    vst1_s16(p + 8, swapped(x.v[2]));
    vst1_s16(p + 12, swapped(x.v[3]));
}

// ---- codes ----

template <int shift, int mask>
KVC_INLINE Words word_bits(Words x) {
    const uint16x8_t m = vdupq_n_u16(uint16_t(mask));
    if constexpr (shift < 0) {
        return each<Words>([&](int i) { return vandq_u16(vshlq_n_u16(x.v[i], -shift), m); });
    } else if constexpr (shift == 0) {
        return each<Words>([&](int i) { return vandq_u16(x.v[i], m); });
    } else if constexpr (0xffff >> shift == mask) {
        return each<Words>([&](int i) { return vshrq_n_u16(x.v[i], shift); });
    } else {
        return each<Words>([&](int i) { return vandq_u16(vshrq_n_u16(x.v[i], shift), m); });
    }
}
KVC_INLINE Words bytes_of(Ints x0, Ints x1, Ints x2, Ints x3) {
    return each<Words>([&](int i) {
        const int32x4_t low = vorrq_s32(x0.v[i], vshlq_n_s32(x1.v[i], 8));
        return vreinterpretq_u16_s32(vorrq_s32(low, vorrq_s32(vshlq_n_s32(x2.v[i], 16), vshlq_n_s32(x3.v[i], 24))));
    });
}
KVC_INLINE Words word_shift(Words x, int shift) {
    return each<Words>([&](int i) { return vshlq_u16(x.v[i], vdupq_n_s16(int16_t(-shift))); });
}
KVC_INLINE Words either(Words x, Words y) {
    return each<Words>([&](int i) { return vorrq_u16(x.v[i], y.v[i]); });
}
template <int shift, int mask>
KVC_INLINE Ints lane_bits(Words x) {
    const uint32x4_t m = vdupq_n_u32(uint32_t(mask));
    return each<Ints>([&](int i) {
        const uint32x4_t lane = vreinterpretq_u32_u16(x.v[i]);
        if constexpr (shift < 0) {
            return vreinterpretq_s32_u32(vandq_u32(vshlq_n_u32(lane, -shift), m));
        } else if constexpr (shift == 0) {
            return vreinterpretq_s32_u32(vandq_u32(lane, m));
        } else {
            return vreinterpretq_s32_u32(vandq_u32(vshrq_n_u32(lane, shift), m));
        }
    });
}

KVC_INLINE Dots zero_dots() {
    const int32x4_t zero = vdupq_n_s32(0);
    return {{zero, zero, zero, zero, zero, zero, zero, zero}};
}
KVC_INLINE Dots dot(Dots sum, Words x, const int16_t* p) {
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    const int16x8_t weights = vreinterpretq_s16_s32(vdupq_n_s32(pair));
    for (int i = 0; i < 4; ++i) {
        const int16x8_t words = vreinterpretq_s16_u16(x.v[i]);
        sum.v[2 * i] = vmlal_s16(sum.v[2 * i], vget_low_s16(words), vget_low_s16(weights));
        sum.v[2 * i + 1] = vmlal_high_s16(sum.v[2 * i + 1], words, weights);
    }
    return sum;
}
KVC_INLINE Dots merge(Dots x, Dots y) {
    for (int i = 0; i < 8; ++i) {
        x.v[i] = vaddq_s32(x.v[i], y.v[i]);
    }
    return x;
}
KVC_INLINE Ints total(Dots sum) {
    return each<Ints>([&](int i) { return vpaddq_s32(sum.v[2 * i], sum.v[2 * i + 1]); });
}

}  // namespace
}  // namespace kvc::simd

// What each lane primitive answers, in plain loops over numbers: the definition that all targets are held to.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/half.h"
#include "tests/lanes/lanes.h"

namespace kvc_test {
namespace {

template <class Op>
void each_float(LaneOutput* out, const Op& op) {
    for (int i = 0; i < lanes; ++i) {
        out->floats[i] = op(i);
    }
}

template <class Op>
void each_int(LaneOutput* out, const Op& op) {
    for (int i = 0; i < lanes; ++i) {
        out->ints[i] = int32_t(op(i));
    }
}

// The tree of docs and kernels: lanes i and i + n / 2, then i and i + n / 4, down to one.
float tree_sum(const float* x, int n) {
    float sums[lanes];
    std::copy(x, x + n, sums);
    for (int half = n / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) {
            sums[i] += sums[i + half];
        }
    }
    return sums[0];
}

uint32_t word_at(const uint8_t* bytes, int word) { return bytes[2 * word] | uint32_t(bytes[2 * word + 1]) << 8; }
uint32_t lane_at(const uint8_t* bytes, int lane) { return word_at(bytes, 2 * lane) | word_at(bytes, 2 * lane + 1) << 16; }
int32_t signed_word(const uint8_t* bytes, int word) { return int16_t(word_at(bytes, word)); }

// Sums of int32 wrap around.
uint32_t product_of(const uint8_t* bytes, int lane, const int16_t* weights) {
    return uint32_t(signed_word(bytes, 2 * lane) * weights[0]) + uint32_t(signed_word(bytes, 2 * lane + 1) * weights[1]);
}

template <class Op>
void each_word(LaneOutput* out, const Op& op) {
    for (int w = 0; w < 2 * lanes; ++w) {
        const uint32_t word = op(w);
        out->bytes[2 * w] = uint8_t(word);
        out->bytes[2 * w + 1] = uint8_t(word >> 8);
    }
}

template <int distance>
void swapped(const LaneInput& in, LaneOutput* out) {
    each_float(out, [&](int i) { return in.x[i ^ distance]; });
}
template <int shift, int mask>
void words(const LaneInput& in, LaneOutput* out) {
    each_word(out, [&](int w) {
        const uint32_t word = word_at(in.bytes, w);
        return (shift < 0 ? word << (shift < 0 ? -shift : 0) : word >> (shift < 0 ? 0 : shift)) & uint32_t(mask);
    });
}
template <int shift, int mask>
void lanes_of(const LaneInput& in, LaneOutput* out) {
    each_int(out, [&](int i) {
        const uint32_t lane = lane_at(in.bytes, i);
        return (shift < 0 ? lane << (shift < 0 ? -shift : 0) : lane >> (shift < 0 ? 0 : shift)) & uint32_t(mask);
    });
}

void load_f16_pair(const LaneInput& in, LaneOutput* out) {
    each_float(out, [&](int i) { return kvc::f32_from_f16(i < 8 ? in.halves[16 + i] : in.halves[3 + i - 8]); });
}

void store_f16(const LaneInput& in, LaneOutput* out) {
    for (int i = 0; i < lanes; ++i) {
        out->halves[i] = kvc::f16_from_f32(in.x[i]);
    }
}

// Of each four numbers: 0, 2, 1, 3.
void store_weights(const LaneInput& in, LaneOutput* out) {
    for (int i = 0; i < lanes; ++i) {
        const int from[] = {0, 2, 1, 3};
        out->weights[i] = int16_t(in.small[i / 4 * 4 + from[i % 4]]);
    }
}

void bytes_of(const LaneInput& in, LaneOutput* out) {
    for (int i = 0; i < lanes; ++i) {
        out->bytes[4 * i] = uint8_t(in.codes0[i]);
        out->bytes[4 * i + 1] = uint8_t(in.codes1[i]);
        out->bytes[4 * i + 2] = uint8_t(in.codes2[i]);
        out->bytes[4 * i + 3] = uint8_t(in.codes3[i]);
    }
}

void sum_of_halves(const LaneInput& in, LaneOutput* out) {
    out->floats[0] = tree_sum(in.x, 8);
    out->floats[1] = tree_sum(in.x + 8, 8);
}

void sum_of_ints(const LaneInput& in, LaneOutput* out) {
    uint32_t sum = 0;
    for (const int32_t number : in.i) {
        sum += uint32_t(number);
    }
    out->ints[0] = int32_t(sum);
}

void two_dots(const LaneInput& in, LaneOutput* out, int second_weights) {
    each_int(out, [&](int i) { return product_of(in.bytes, i, in.weights) + product_of(in.more, i, in.weights + second_weights); });
}

constexpr LaneOperation operations[] = {
    {"load", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.x[i]; }); }},
    {"broadcast", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int) { return in.limit; }); }},
    {"load_f16", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return kvc::f32_from_f16(in.halves[i]); }); }},
    {"load_bf16",
     [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return kvc::f32_from_bf16(in.halves[i]); }); }},
    {"store_f16", store_f16},
    {"load_u8", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return float(in.bytes[i]); }); }},
    {"load_s8", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return float(int8_t(in.bytes[i])); }); }},
    {"load_f16_pair", load_f16_pair},
    {"broadcast_pair",
     [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return i < 8 ? in.limit : in.x[0]; }); }},
    {"load_words", [](const LaneInput& in, LaneOutput* out) { std::memcpy(out->bytes, in.bytes, 64); }},
    {"prefetch", [](const LaneInput&, LaneOutput*) {}},
    {"add", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.x[i] + in.y[i]; }); }},
    {"sub", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.x[i] - in.y[i]; }); }},
    {"mul", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.x[i] * in.y[i]; }); }},
    {"div", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.x[i] / in.y[i]; }); }},
    {"max", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return std::max(in.x[i], in.y[i]); }); }},
    {"min", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return std::min(in.x[i], in.y[i]); }); }},
    {"fma", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return std::fma(in.x[i], in.y[i], in.z[i]); }); }},
    {"abs", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return std::fabs(in.x[i]); }); }},
    {"where_at_least",
     [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.y[i] >= in.limit ? in.x[i] : 0.0f; }); }},
    {"choose",
     [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return in.mask >> i & 1 ? in.x[i] : in.y[i]; }); }},
    {"swap_lanes<1>", swapped<1>},
    {"swap_lanes<2>", swapped<2>},
    {"swap_lanes<4>", swapped<4>},
    {"swap_lanes<8>", swapped<8>},
    {"lane0", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = in.x[0]; }},
    {"sum_of_lanes", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = tree_sum(in.x, lanes); }},
    {"sum_of_halves", sum_of_halves},
    {"max_of_lanes", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = *std::max_element(in.x, in.x + lanes); }},
    {"min_of_lanes", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = *std::min_element(in.x, in.x + lanes); }},
    {"magnitude_bits", [](const LaneInput& in,
                          LaneOutput* out) { each_int(out, [&](int i) { return std::bit_cast<uint32_t>(in.x[i]) & 0x7fffffffu; }); }},
    {"max of ints", [](const LaneInput& in, LaneOutput* out) { each_int(out, [&](int i) { return std::max(in.i[i], in.j[i]); }); }},
    {"max_of_lanes of ints", [](const LaneInput& in, LaneOutput* out) { out->ints[0] = *std::max_element(in.i, in.i + lanes); }},
    {"round_to_ints",
     [](const LaneInput& in, LaneOutput* out) { each_int(out, [&](int i) { return std::nearbyint(in.roundable[i]); }); }},
    {"to_floats", [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return float(in.i[i]); }); }},
    {"times_two_to",
     [](const LaneInput& in, LaneOutput* out) { each_float(out, [&](int i) { return std::ldexp(in.normal[i], in.exponents[i]); }); }},
    {"sub of ints", [](const LaneInput& in, LaneOutput* out) { each_int(out, [&](int i) { return in.small[i] - in.shift; }); }},
    {"zero_ints", [](const LaneInput&, LaneOutput* out) { each_int(out, [&](int) { return 0; }); }},
    {"add of ints",
     [](const LaneInput& in, LaneOutput* out) { each_int(out, [&](int i) { return uint32_t(in.i[i]) + uint32_t(in.j[i]); }); }},
    {"sum_of_lanes of ints", sum_of_ints},
    {"store_weights", store_weights},
    {"word_bits<0, 0x0f0f>", words<0, 0x0f0f>},
    {"word_bits<4, 0x0f0f>", words<4, 0x0f0f>},
    {"word_bits<-4, 0xf0f0>", words<-4, 0xf0f0>},
    {"word_bits<6, 0x0303>", words<6, 0x0303>},
    {"word_bits<-2, 0x0404>", words<-2, 0x0404>},
    {"word_bits<8, 0x00ff>", words<8, 0x00ff>},
    {"word_bits<12, 0x000f>", words<12, 0x000f>},
    {"word_bits<8, 0x000f>", words<8, 0x000f>},
    {"bytes_of", bytes_of},
    {"word_shift",
     [](const LaneInput& in, LaneOutput* out) { each_word(out, [&](int w) { return word_at(in.bytes, w) >> in.shift; }); }},
    {"either",
     [](const LaneInput& in, LaneOutput* out) { each_word(out, [&](int w) { return word_at(in.bytes, w) | word_at(in.more, w); }); }},
    {"lane_bits<0, 0xf>", lanes_of<0, 0xf>},
    {"lane_bits<4, 0xf>", lanes_of<4, 0xf>},
    {"lane_bits<24, 0xff>", lanes_of<24, 0xff>},
    {"lane_bits<30, 3>", lanes_of<30, 3>},
    {"lane_bits<-2, 4>", lanes_of<-2, 4>},
    {"zero_dots", [](const LaneInput&, LaneOutput* out) { each_int(out, [&](int) { return 0; }); }},
    {"dot", [](const LaneInput& in, LaneOutput* out) { two_dots(in, out, 1); }},
    {"merge", [](const LaneInput& in, LaneOutput* out) { two_dots(in, out, 2); }},
};

}  // namespace

LaneTarget model_lanes() { return {"model", operations, int(sizeof operations / sizeof *operations)}; }

}  // namespace kvc_test

// One adapter for each lane primitive; the target's lanes_<target>.h comes first. Everything here is local to the unit.
#pragma once
#include "tests/lanes/lanes.h"

namespace kvc::simd {
namespace {

using kvc_test::LaneInput;
using kvc_test::LaneOperation;
using kvc_test::LaneOutput;

inline const std::byte* bytes_in(const uint8_t* p) { return reinterpret_cast<const std::byte*>(p); }
inline std::byte* bytes_out(LaneOutput* out) { return reinterpret_cast<std::byte*>(out->bytes); }
inline Ints ints_in(const int32_t* p) { return lane_bits<0, -1>(load_words(reinterpret_cast<const std::byte*>(p))); }

template <int distance>
void swapped(const LaneInput& in, LaneOutput* out) {
    store(out->floats, swap_lanes<distance>(load(in.x)));
}
template <int shift, int mask>
void words(const LaneInput& in, LaneOutput* out) {
    store(bytes_out(out), word_bits<shift, mask>(load_words(bytes_in(in.bytes))));
}
template <int shift, int mask>
void lanes_of(const LaneInput& in, LaneOutput* out) {
    store(out->ints, lane_bits<shift, mask>(load_words(bytes_in(in.bytes))));
}

constexpr LaneOperation operations[] = {
    {"load", [](const LaneInput& in, LaneOutput* out) { store(out->floats, load(in.x)); }},
    {"broadcast", [](const LaneInput& in, LaneOutput* out) { store(out->floats, broadcast(in.limit)); }},
    {"load_f16", [](const LaneInput& in, LaneOutput* out) { store(out->floats, load_f16(in.halves)); }},
    {"load_bf16", [](const LaneInput& in, LaneOutput* out) { store(out->floats, load_bf16(in.halves)); }},
    {"store_f16", [](const LaneInput& in, LaneOutput* out) { store_f16(out->halves, load(in.x)); }},
    {"load_u8", [](const LaneInput& in, LaneOutput* out) { store(out->floats, load_u8(in.bytes)); }},
    {"load_s8", [](const LaneInput& in, LaneOutput* out) { store(out->floats, load_s8(in.bytes)); }},
    {"load_f16_pair", [](const LaneInput& in, LaneOutput* out) { store(out->floats, load_f16_pair(in.halves + 16, in.halves + 3)); }},
    {"broadcast_pair", [](const LaneInput& in, LaneOutput* out) { store(out->floats, broadcast_pair(in.limit, in.x[0])); }},
    {"load_words", [](const LaneInput& in, LaneOutput* out) { store(bytes_out(out), load_words(bytes_in(in.bytes))); }},
    {"prefetch", [](const LaneInput& in, LaneOutput*) { prefetch(bytes_in(in.bytes)); }},
    {"add", [](const LaneInput& in, LaneOutput* out) { store(out->floats, add(load(in.x), load(in.y))); }},
    {"sub", [](const LaneInput& in, LaneOutput* out) { store(out->floats, sub(load(in.x), load(in.y))); }},
    {"mul", [](const LaneInput& in, LaneOutput* out) { store(out->floats, mul(load(in.x), load(in.y))); }},
    {"div", [](const LaneInput& in, LaneOutput* out) { store(out->floats, div(load(in.x), load(in.y))); }},
    {"max", [](const LaneInput& in, LaneOutput* out) { store(out->floats, max(load(in.x), load(in.y))); }},
    {"min", [](const LaneInput& in, LaneOutput* out) { store(out->floats, min(load(in.x), load(in.y))); }},
    {"fma", [](const LaneInput& in, LaneOutput* out) { store(out->floats, fma(load(in.x), load(in.y), load(in.z))); }},
    {"abs", [](const LaneInput& in, LaneOutput* out) { store(out->floats, abs(load(in.x))); }},
    {"where_at_least",
     [](const LaneInput& in, LaneOutput* out) { store(out->floats, where_at_least(load(in.y), in.limit, load(in.x))); }},
    {"choose", [](const LaneInput& in, LaneOutput* out) { store(out->floats, choose(in.mask, load(in.x), load(in.y))); }},
    {"swap_lanes<1>", swapped<1>},
    {"swap_lanes<2>", swapped<2>},
    {"swap_lanes<4>", swapped<4>},
    {"swap_lanes<8>", swapped<8>},
    {"lane0", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = lane0(load(in.x)); }},
    {"sum_of_lanes", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = sum_of_lanes(load(in.x)); }},
    {"sum_of_halves",
     [](const LaneInput& in, LaneOutput* out) {
         const Pair pair = sum_of_halves(load(in.x));
         out->floats[0] = pair.first;
         out->floats[1] = pair.second;
     }},
    {"max_of_lanes", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = max_of_lanes(load(in.x)); }},
    {"min_of_lanes", [](const LaneInput& in, LaneOutput* out) { out->floats[0] = min_of_lanes(load(in.x)); }},
    {"magnitude_bits", [](const LaneInput& in, LaneOutput* out) { store(out->ints, magnitude_bits(load(in.x))); }},
    {"max of ints", [](const LaneInput& in, LaneOutput* out) { store(out->ints, max(ints_in(in.i), ints_in(in.j))); }},
    {"max_of_lanes of ints", [](const LaneInput& in, LaneOutput* out) { out->ints[0] = max_of_lanes(ints_in(in.i)); }},
    {"round_to_ints", [](const LaneInput& in, LaneOutput* out) { store(out->ints, round_to_ints(load(in.roundable))); }},
    {"to_floats", [](const LaneInput& in, LaneOutput* out) { store(out->floats, to_floats(ints_in(in.i))); }},
    {"times_two_to",
     [](const LaneInput& in, LaneOutput* out) { store(out->floats, times_two_to(load(in.normal), ints_in(in.exponents))); }},
    {"sub of ints", [](const LaneInput& in, LaneOutput* out) { store(out->ints, sub(ints_in(in.small), in.shift)); }},
    {"zero_ints", [](const LaneInput&, LaneOutput* out) { store(out->ints, zero_ints()); }},
    {"add of ints", [](const LaneInput& in, LaneOutput* out) { store(out->ints, add(ints_in(in.i), ints_in(in.j))); }},
    {"sum_of_lanes of ints", [](const LaneInput& in, LaneOutput* out) { out->ints[0] = sum_of_lanes(ints_in(in.i)); }},
    {"store_weights", [](const LaneInput& in, LaneOutput* out) { store_weights(out->weights, ints_in(in.small)); }},
    {"word_bits<0, 0x0f0f>", words<0, 0x0f0f>},
    {"word_bits<4, 0x0f0f>", words<4, 0x0f0f>},
    {"word_bits<-4, 0xf0f0>", words<-4, 0xf0f0>},
    {"word_bits<6, 0x0303>", words<6, 0x0303>},
    {"word_bits<-2, 0x0404>", words<-2, 0x0404>},
    {"word_bits<8, 0x00ff>", words<8, 0x00ff>},
    {"word_bits<12, 0x000f>", words<12, 0x000f>},
    {"word_bits<8, 0x000f>", words<8, 0x000f>},
    {"bytes_of",
     [](const LaneInput& in, LaneOutput* out) {
         store(bytes_out(out), bytes_of(ints_in(in.codes0), ints_in(in.codes1), ints_in(in.codes2), ints_in(in.codes3)));
     }},
    {"word_shift",
     [](const LaneInput& in, LaneOutput* out) { store(bytes_out(out), word_shift(load_words(bytes_in(in.bytes)), in.shift)); }},
    {"either", [](const LaneInput& in,
                  LaneOutput* out) { store(bytes_out(out), either(load_words(bytes_in(in.bytes)), load_words(bytes_in(in.more)))); }},
    {"lane_bits<0, 0xf>", lanes_of<0, 0xf>},
    {"lane_bits<4, 0xf>", lanes_of<4, 0xf>},
    {"lane_bits<24, 0xff>", lanes_of<24, 0xff>},
    {"lane_bits<30, 3>", lanes_of<30, 3>},
    {"lane_bits<-2, 4>", lanes_of<-2, 4>},
    {"zero_dots", [](const LaneInput&, LaneOutput* out) { store(out->ints, total(zero_dots())); }},
    {"dot",
     [](const LaneInput& in, LaneOutput* out) {
         const Dots first = dot(zero_dots(), load_words(bytes_in(in.bytes)), in.weights);
         store(out->ints, total(dot(first, load_words(bytes_in(in.more)), in.weights + 1)));
     }},
    {"merge",
     [](const LaneInput& in, LaneOutput* out) {
         const Dots a = dot(zero_dots(), load_words(bytes_in(in.bytes)), in.weights);
         const Dots b = dot(zero_dots(), load_words(bytes_in(in.more)), in.weights + 2);
         store(out->ints, total(merge(a, b)));
     }},
};

kvc_test::LaneTarget lanes_named(const char* name) { return {name, operations, int(sizeof operations / sizeof *operations)}; }

}  // namespace
}  // namespace kvc::simd

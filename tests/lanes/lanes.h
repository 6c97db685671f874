// The lane primitives that the SIMD kernels are written over, as functions that code built for the baseline can call.
// A target's unit (avx2.cpp and its like) is compiled with that target's flags and holds nothing but the adapters;
// model.cpp says in plain loops what each has to answer.
#pragma once
#include <cstdint>
#include <vector>

namespace kvc_test {

constexpr int lanes = 16;
constexpr int beyond = 4;  // numbers behind an output, which no operation may touch

struct LaneInput {
    float x[lanes], y[lanes], z[lanes];
    float limit;
    float roundable[lanes];  // below 2^30
    float normal[lanes];     // of moderate exponents
    int32_t i[lanes], j[lanes];
    int32_t exponents[lanes];                                            // -40 to 40
    int32_t small[lanes];                                                // what an int16 holds
    int32_t codes0[lanes], codes1[lanes], codes2[lanes], codes3[lanes];  // 0 to 255
    int16_t weights[4];
    uint16_t halves[lanes + 8];
    uint8_t bytes[64], more[64];
    uint32_t mask;
    int shift;  // 0 to 8
};

struct LaneOutput {
    float floats[lanes + beyond];
    int32_t ints[lanes + beyond];
    uint16_t halves[lanes + beyond];
    int16_t weights[lanes + beyond];
    uint8_t bytes[64 + beyond];
};

struct LaneOperation {
    const char* name;
    void (*run)(const LaneInput& in, LaneOutput* out);
};

struct LaneTarget {
    const char* name;
    const LaneOperation* operations;
    int count;
};

LaneTarget avx2_lanes();
LaneTarget avx512_lanes();
LaneTarget avx512vnni_lanes();
LaneTarget neon_lanes();
LaneTarget model_lanes();
// Those that the program tests (targets.cpp), or a list of its own.
std::vector<LaneTarget> lanes_under_test();

}  // namespace kvc_test

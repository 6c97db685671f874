// Every lane primitive of every target that this machine runs, against the model.
#include "tests/lanes/lanes.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/backend/kernel_table.h"

using namespace kvc_test;

namespace {

// Whether the dispatcher found this processor able to run the target.
bool runs_here(const LaneTarget& target) {
    for (int i = 0; i < kvc::kernel_table_count(); ++i) {
        if (std::string(target.name) == kvc::kernel_table(i)->name) {
            return true;
        }
    }
    return false;
}

// Zeros, the ends of the number types, ties of rounding to 16 bits, and what is no number.
const float special[] = {0.0f,
                         -0.0f,
                         1.0f,
                         -1.0f,
                         0.5f,
                         1.5f,
                         -2.5f,
                         65504.0f,
                         65519.9f,
                         65520.0f,
                         -70000.0f,
                         0x1p-14f,
                         0x1p-24f,
                         0x1p-25f,
                         1e-30f,
                         1.0009766f,
                         2049.0f,
                         2051.0f,
                         0x1.fffffep127f,
                         0x1p-126f,
                         0x1p-149f,
                         HUGE_VALF,
                         -HUGE_VALF,
                         std::numeric_limits<float>::quiet_NaN()};

class Inputs {
public:
    explicit Inputs(unsigned seed) : random_(seed) {}

    // With `ordered`, x and y hold numbers without a sign of zero: what max and min are asked about.
    void fill(bool ordered, LaneInput* in) {
        for (int i = 0; i < lanes; ++i) {
            in->x[i] = number(ordered);
            in->y[i] = number(ordered);
            in->z[i] = number(ordered);
            in->roundable[i] = std::ldexp(std::round(uniform_(random_) * 512), int(random_() % 21) - 1);
            in->normal[i] = std::ldexp(uniform_(random_) + 3, int(random_() % 60) - 30);
            in->i[i] = int32_t(random_());
            in->j[i] = int32_t(random_());
            in->exponents[i] = int(random_() % 81) - 40;
            in->small[i] = int16_t(random_());
            in->codes0[i] = uint8_t(random_());
            in->codes1[i] = uint8_t(random_());
            in->codes2[i] = uint8_t(random_());
            in->codes3[i] = uint8_t(random_());
        }
        for (uint16_t& half : in->halves) {
            half = uint16_t(random_());
        }
        for (int16_t& weight : in->weights) {
            weight = int16_t(random_());
        }
        for (int i = 0; i < 64; ++i) {
            in->bytes[i] = uint8_t(random_());
            in->more[i] = uint8_t(random_());
        }
        in->limit = random_() % 2 ? in->y[random_() % lanes] : number(ordered);
        in->mask = random_() % 8 ? uint32_t(random_() & 0xffff) : 0xffffu * (random_() % 2);
        in->shift = int(random_() % 9);
    }

private:
    float number(bool ordered) {
        const float x =
            random_() % 4 ? std::ldexp(uniform_(random_), int(random_() % 40) - 20) : special[random_() % std::size(special)];
        return ordered && (x == 0 || std::isnan(x)) ? 3.0f : x;
    }

    std::mt19937 random_;
    std::uniform_real_distribution<float> uniform_{-2, 2};
};

bool is_nan(uint16_t half) { return (half & 0x7fff) > 0x7c00; }

// Says where the bits differ; any NaN is like any other. Empty if nowhere.
std::string difference(const LaneOutput& out, const LaneOutput& truth) {
    std::ostringstream text;
    text << std::hexfloat;
    for (int i = 0; i < lanes + beyond; ++i) {
        const float number = out.floats[i], wanted = truth.floats[i];
        if (std::bit_cast<uint32_t>(number) != std::bit_cast<uint32_t>(wanted) && !(std::isnan(number) && std::isnan(wanted))) {
            text << "float " << i << ": " << number << ", not " << wanted << "; ";
        }
        if (out.halves[i] != truth.halves[i] && !(is_nan(out.halves[i]) && is_nan(truth.halves[i]))) {
            text << "half " << i << ": " << out.halves[i] << ", not " << truth.halves[i] << "; ";
        }
        if (out.ints[i] != truth.ints[i]) {
            text << "int " << i << ": " << out.ints[i] << ", not " << truth.ints[i] << "; ";
        }
        if (out.weights[i] != truth.weights[i]) {
            text << "weight " << i << ": " << out.weights[i] << ", not " << truth.weights[i] << "; ";
        }
    }
    if (std::memcmp(out.bytes, truth.bytes, sizeof out.bytes) != 0) {
        text << "bytes";
    }
    return text.str();
}

// Runs the operation on memory that is aligned to its numbers and no further; says where it differs from the model.
std::string fault(const LaneOperation& operation, const LaneOperation& model, const LaneInput& in) {
    alignas(64) static std::byte memory[4 + sizeof(LaneInput)];
    alignas(64) static std::byte result[4 + sizeof(LaneOutput)];
    LaneOutput truth;
    std::memset(static_cast<void*>(&truth), 0x5a, sizeof truth);
    std::memset(result, 0x5a, sizeof result);
    std::memcpy(memory + 4, &in, sizeof in);
    model.run(in, &truth);
    operation.run(*reinterpret_cast<LaneInput*>(memory + 4), reinterpret_cast<LaneOutput*>(result + 4));
    return difference(*reinterpret_cast<LaneOutput*>(result + 4), truth);
}

const LaneOperation& model_of(const std::string& name) {
    for (int i = 0; i < model_lanes().count; ++i) {
        if (name == model_lanes().operations[i].name) {
            return model_lanes().operations[i];
        }
    }
    FAIL("the model has no ", name);
    return model_lanes().operations[0];
}

bool orders(const std::string& name) { return name.starts_with("max") || name.starts_with("min"); }

template <class Visit>
void for_each_operation(const Visit& visit) {
    for (const LaneTarget& target : lanes_under_test()) {
        if (!runs_here(target)) {
            MESSAGE("the lanes of ", std::string(target.name), " do not run on this machine");
            continue;
        }
        for (int i = 0; i < target.count; ++i) {
            INFO(std::string(target.name), " ", std::string(target.operations[i].name));
            visit(target.operations[i], model_of(target.operations[i].name));
        }
    }
}

}  // namespace

TEST_CASE("lanes: every target has the operations of the model, and this processor family has a target") {
    CHECK(!lanes_under_test().empty());
    for (const LaneTarget& target : lanes_under_test()) {
        INFO(std::string(target.name));
        REQUIRE(target.count == model_lanes().count);
        for (int i = 0; i < target.count; ++i) {
            CHECK(std::string(target.operations[i].name) == model_lanes().operations[i].name);
        }
    }
}

TEST_CASE("lanes: every operation is the model's, bit for bit, and touches nothing else") {
    for_each_operation([](const LaneOperation& operation, const LaneOperation& model) {
        Inputs inputs(7);
        LaneInput in;
        for (int round = 0; round < 2000; ++round) {
            inputs.fill(orders(operation.name), &in);
            INFO("round ", round);
            REQUIRE(fault(operation, model, in) == "");
        }
    });
}

TEST_CASE("lanes: all 65,536 numbers of 16 bits are read as they are, and written back") {
    for_each_operation([](const LaneOperation& operation, const LaneOperation& model) {
        const std::string name = operation.name;
        if (name != "load_f16" && name != "load_bf16" && name != "store_f16") {
            return;
        }
        LaneInput in;
        Inputs(7).fill(false, &in);
        LaneOutput numbers{};
        for (int first = 0; first < 65536; first += lanes) {
            for (int i = 0; i < lanes; ++i) {
                in.halves[i] = uint16_t(first + i);
            }
            model_of("load_f16").run(in, &numbers);
            std::memcpy(in.x, numbers.floats, sizeof in.x);
            REQUIRE(fault(operation, model, in) == "");
        }
    });
}

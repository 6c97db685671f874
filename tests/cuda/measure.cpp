// Numbers of tokens for policies, taken by the device: the bits of the host.
#include <doctest/doctest.h>

#include "kernels/cuda/page_kind.h"
#include "tests/cuda/codecs.h"
#include "tests/cuda/emulated_device.h"
#include "tests/cuda/measure_rig.h"

using namespace kvc_test;
using kvc::simt::FakeDevice;
using kvc::simt::LaneOrder;

namespace {

// Around runs of 32 tokens, pages, and what one key of many is compared with.
const std::vector<int64_t> boundaries = {0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65};

}  // namespace

TEST_CASE("measure: statistics of keys and lengths of values are the host's bits, every preset, at the boundaries of runs and pages") {
    for (const char* const codec : main_codecs) {
        INFO(std::string(codec));
        const auto device = open();
        check_measures(device, TokenRecords(device, {codec}, 64, 64), boundaries);
    }
}

TEST_CASE("measure: the same at every pair of head dims, and over pages of several rungs"){
#define KVC_TEST_PAIR(KD, VD)                                                         \
    {                                                                                 \
        INFO(KD, " ", VD);                                                            \
        const auto device = open();                                                   \
        check_measures(device, TokenRecords(device, {"int8", "int4"}, KD, VD), {33}); \
    }
    KVC_CUDA_HEAD_DIMS(KVC_TEST_PAIR)
#undef KVC_TEST_PAIR
}

TEST_CASE("measure: a key is compared with as many newer ones as the host compares it with") {
    const auto device = open();
    check_measures(device, TokenRecords(device, {"int4"}, 64, 64), {255, 256, 257, 258, 300});
}

TEST_CASE("measure: a key finds itself among the 256 that follow, and not behind them") {
    const auto device = open();
    const TokenRecords records(device, {"int4"}, 64, 64);
    for (const int64_t distance : {1, 8, 255, 256, 257, 264}) {
        CAPTURE(distance);
        TokenRecords::List list = records.draw(300, 1, true);
        for (uint32_t& place : list.places)
            place = place == 70 ? 71 : place;
        list.places[3] = list.places[size_t(3 + distance)] = 70;
        std::vector<double> out(300);
        const kvc::StatisticJob job = {&records.format(), list.list(), kvc::KeyStatistic::similarity, 1, nullptr, nullptr,
                                       out.data(),        nullptr};
        REQUIRE(device->measure({&job, 1}).ok());
        CHECK((out[3] > 0.999999) == (distance <= kvc::similarity_reach));
        CHECK(out[299] == -1);
    }
}

TEST_CASE("measure: in any order of lanes and streams, call behind call") {
    for (const LaneOrder lanes : {LaneOrder::forward, LaneOrder::reverse, LaneOrder::random}) {
        const Order order(lanes == LaneOrder::forward ? 3 : 5, lanes);
        const auto device = open();
        const TokenRecords records(device, {"int3"}, 96, 96);
        check_measures(device, records, {40});
        check_measures(device, records, {700, 1});  // more memory than the call before
        check_measures(device, records, {70, 0, 3});
    }
}

TEST_CASE("measure: a call that fails says so, refused memory among them, and the next one works") {
    int refused = 0;
    for (int64_t n = 1;; n++) {
        const Order order(uint64_t(n % 3));
        const auto device = open();
        const TokenRecords records(device, {"int4"}, 64, 64);
        const TokenRecords::List list = records.draw(40, 1, true);
        std::vector<double> out(40);
        const kvc::StatisticJob job = {&records.format(), list.list(), kvc::KeyStatistic::square, 1, nullptr, nullptr,
                                       out.data(),        nullptr};
        FakeDevice::get().fail_call_in(n);
        const kvc::Status status = device->measure({&job, 1});
        FakeDevice::get().fail_call_in(0);
        if (status.ok()) {
            CHECK(n > 4);  // two kinds of memory, the copies, the wait
            break;
        }
        CHECK((status.code == kvc::Code::device || status.code == kvc::Code::no_memory));
        refused += status.code == kvc::Code::no_memory;
        check_measures(device, records, {40});
        REQUIRE(n < 20);
    }
    CHECK(refused == 2);
}

// The emulated devices, as tests open and steer them.
#pragma once
#include <doctest/doctest.h>
#include <memory>

#include "core/backend/device.h"
#include "kernels/cuda/device.h"
#include "kernels/simt/fake_device.h"

namespace kvc_test {

// Not the one that a thread has selected at first, so that a call which forgets to select its device is noticed in every test.
constexpr int used_device = 1;

inline std::shared_ptr<kvc::Device> open(int64_t ordinal = used_device, kvc::DeviceHeap heap = kvc::DeviceHeap::direct) {
    auto device = kvc::open_device(ordinal, heap);
    REQUIRE(device.ok());
    return *device;
}

// As long as it lives, the devices work in that order. No call meanwhile may name what is another device's.
struct Order {
    explicit Order(uint64_t seed, kvc::simt::LaneOrder lanes = kvc::simt::lane_order_of_run())
        : strays(kvc::simt::FakeDevice::get().counts().strays) {
        kvc::simt::FakeDevice::get().set_order(seed, lanes);
    }
    ~Order() {
        CHECK(kvc::simt::FakeDevice::get().counts().strays == strays);
        kvc::simt::FakeDevice::get().heal();
        kvc::simt::FakeDevice::get().set_order(0);
    }
    const int64_t strays;
};

// As long as it lives there are three devices, and the thread has selected the last, which nobody uses.
struct Elsewhere {
    static constexpr int ordinal = 2;
    Elsewhere() : before(kvc::cuda::runtime::selected()) {
        kvc::simt::FakeDevice::get().set_count(3);
        REQUIRE(kvc::cuda::runtime::select(ordinal).ok());
    }
    ~Elsewhere() {
        CHECK(kvc::cuda::runtime::select(before).ok());
        kvc::simt::FakeDevice::get().set_count(2);
    }
    const int before;
};

}  // namespace kvc_test

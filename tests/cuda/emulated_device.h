// The emulated device, as tests open and steer it.
#pragma once
#include <doctest/doctest.h>
#include <memory>

#include "core/backend/device.h"
#include "kernels/simt/fake_device.h"

namespace kvc_test {

inline std::shared_ptr<kvc::Device> open() {
    auto device = kvc::open_device(0);
    REQUIRE(device.ok());
    return *device;
}

// As long as it lives, the device works in that order.
struct Order {
    explicit Order(uint64_t seed, kvc::simt::LaneOrder lanes = kvc::simt::LaneOrder::forward) {
        kvc::simt::FakeDevice::get().set_order(seed, lanes);
    }
    ~Order() {
        kvc::simt::FakeDevice::get().heal();
        kvc::simt::FakeDevice::get().set_order(0);
    }
};

}  // namespace kvc_test

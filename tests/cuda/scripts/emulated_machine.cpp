// machine.h of the emulated devices.
#include <doctest/doctest.h>

#include "kernels/cuda/runtime.h"
#include "kernels/simt/fake_device.h"
#include "tests/cuda/scripts/machine.h"

namespace kvc_cuda_scripts {

using kvc::simt::FakeDevice;
using kvc::simt::LaneOrder;
namespace runtime = kvc::cuda::runtime;

namespace {

[[maybe_unused]] const int before = select_another_device();  // before any test

}  // namespace

int select_another_device() { return runtime::select(1).ok() ? 1 : runtime::selected(); }
int selected_device() { return runtime::selected(); }

Order::Order(uint64_t streams) : strays_(FakeDevice::get().counts().strays) { FakeDevice::get().set_order(streams); }

Order::Order(uint64_t streams, uint64_t lanes) : strays_(FakeDevice::get().counts().strays) {
    const LaneOrder orders[] = {LaneOrder::forward, LaneOrder::reverse, LaneOrder::random};
    FakeDevice::get().set_order(streams, orders[lanes % 3]);
}

Order::~Order() {
    CHECK(FakeDevice::get().counts().strays == strays_);
    FakeDevice::get().set_order(0);
}

Quiet::Quiet(kvc_cache* cache) : cache_(cache) {
    REQUIRE(kvc_synchronize(cache_, nullptr) == KVC_OK);
    const FakeDevice::Counts counts = FakeDevice::get().counts();
    copies_ = counts.copies_out, waits_ = counts.waits, strays_ = counts.strays;
}

void Quiet::check() const {
    const FakeDevice::Counts counts = FakeDevice::get().counts();
    CHECK(counts.copies_out == copies_);
    CHECK(counts.waits == waits_);
    CHECK(counts.strays == strays_);
}

}  // namespace kvc_cuda_scripts

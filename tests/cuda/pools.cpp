// Devices whose memory comes from pools, which give and take it in the order of streams.
#include <doctest/doctest.h>
#include <string>

#include "kernels/simt/table.h"
#include "tests/cuda/device_rig.h"
#include "tests/cuda/emulated_device.h"

using namespace kvc_test;
using kvc::DeviceHeap;
using kvc::simt::FakeDevice;
using kvc::simt::LaneOrder;
namespace runtime = kvc::cuda::runtime;

namespace {

constexpr DeviceHeap pools[] = {DeviceHeap::shared_pool, DeviceHeap::own_pool};

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// Blocks that come and go between steps, each with bytes of its own.
void pass_blocks(kvc::Device& device, unsigned seed) {
    for (const int64_t n : {int64_t{700}, int64_t{70000}, int64_t{700}}) {
        std::vector<std::byte> sent(static_cast<size_t>(n), std::byte(seed++)), back(sent.size());
        std::byte* const a = device.allocate(n);
        std::byte* const b = device.allocate(n);
        REQUIRE(a);
        REQUIRE(b);
        CHECK(device.write(a, sent.data(), n).ok());
        CHECK(device.copy(a, b, n).ok());
        device.release(a);
        CHECK(device.read(b, back.data(), n).ok());
        device.release(b);
        CHECK(back == sent);
    }
}

bool holds_as_much(const FakeDevice::Counts& a, const FakeDevice::Counts& b) {
    return a.blocks == b.blocks && a.pinned_blocks == b.pinned_blocks && a.pools == b.pools;
}

}  // namespace

TEST_CASE("pools: steps on any stream give the same as without, while blocks come and go, and nothing is left") {
    for (const DeviceHeap heap : pools) {
        for (uint64_t seed = 0; seed < 5; seed++) {
            INFO("heap ", int(heap), ", seed ", seed);
            const Order order(seed, seed % 2 == 1 ? LaneOrder::random : kvc::simt::lane_order_of_run());
            const FakeDevice::Counts before = FakeDevice::get().counts();
            REQUIRE(runtime::select(used_device).ok());
            const auto stream = runtime::create_stream();
            REQUIRE(runtime::select(0).ok());
            {
                const auto device = open(used_device, heap);
                CHECK(FakeDevice::get().counts().pools == before.pools + (heap == DeviceHeap::own_pool ? 1 : 0));
                Rig rig(device, {.device_buffers = seed >= 2});
                unsigned turn = 0;
                for (const int64_t tokens : {60, 64, 1, 100, 1}) {
                    rig.plan(tokens);
                    REQUIRE(rig.run(turn++ % 2 == 1 ? *stream : nullptr).ok());
                    pass_blocks(*device, turn);
                    REQUIRE(rig.fetch().ok());
                    rig.check_outputs();
                }
                rig.check_records();
            }
            REQUIRE(runtime::select(used_device).ok());
            runtime::destroy_stream(*stream);
            REQUIRE(runtime::select(0).ok());
            CHECK(holds_as_much(FakeDevice::get().counts(), before));
        }
    }
}

TEST_CASE("pools: the emulator notices who uses memory before it is given, or after it was given back") {
    REQUIRE(runtime::select(used_device).ok());
    auto pinned = runtime::allocate_pinned(256);
    bool noticed = false;
    for (uint64_t seed = 1; seed < 20; seed++) {
        FakeDevice::get().set_order(seed);
        const auto pool = runtime::create_pool(used_device);
        const auto one = runtime::create_stream(), other = runtime::create_stream();
        const auto block = runtime::allocate_in(*pool, 256, *one);
        REQUIRE(block.ok());
        (void)runtime::copy_in(*block, *pinned, 256, *other).ok();  // does not wait for the first
        noticed |= contains(runtime::synchronize_device().message, "has not given yet");
        FakeDevice::get().heal();
        runtime::release(*block);
        const auto again = runtime::allocate_in(*pool, 256, *one);
        REQUIRE(again.ok());
        CHECK(runtime::copy_in(*again, *pinned, 256, *one).ok());
        runtime::release_in(*again, *one);
        CHECK(contains(runtime::copy_in(*again, *pinned, 256, *one).message, "not of the kind of memory"));
        FakeDevice::get().heal();
        runtime::destroy_stream(*one);
        runtime::destroy_stream(*other);
        runtime::destroy_pool(*pool);
    }
    FakeDevice::get().set_order(0);
    CHECK(noticed);
    runtime::release_pinned(*pinned);
    REQUIRE(runtime::select(0).ok());
}

TEST_CASE("pools: a device without any says so, whatever pool is asked for, and serves without") {
    FakeDevice::get().set_pools(false);
    for (const DeviceHeap heap : pools) {
        const FakeDevice::Counts before = FakeDevice::get().counts();
        const auto refused = kvc::open_device(used_device, heap);
        REQUIRE(!refused.ok());
        CHECK(refused.status().code == kvc::Code::unsupported);
        CHECK(contains(refused.status().message, "CUDA device 1 has no memory pools"));
        CHECK(holds_as_much(FakeDevice::get().counts(), before));
    }
    CHECK(kvc::open_device(used_device).ok());
    FakeDevice::get().set_pools(true);
}

TEST_CASE("pools: whichever call fails, the error is told, nothing is lost, and the device serves on or says that it cannot") {
    for (const DeviceHeap heap : pools) {
        int64_t failures = 0;
        for (int64_t n = 1;; n++) {
            INFO("heap ", int(heap), ", call ", n);
            const Order order(uint64_t(n % 5));
            const FakeDevice::Counts before = FakeDevice::get().counts();
            bool failed = false;
            int64_t calls = 0;  // that could fail
            FakeDevice::get().fail_call_in(n);
            if (const auto device = kvc::open_device(used_device, heap); device.ok()) {
                std::byte* const block = (*device)->allocate(4096);
                std::byte* const of_caller = (*device)->allocate_for_caller(4096);
                const std::vector<std::byte> sent(4096, std::byte{7});
                failed = !block || !of_caller || !(*device)->write(block, sent.data(), 4096).ok();
                (*device)->release(of_caller);
                (*device)->release(block);
                std::vector<kvc::BadStore> bad;
                failed |= !(*device)->synchronize(&bad).ok();
                calls = FakeDevice::get().counts().calls - before.calls;
                FakeDevice::get().fail_call_in(0);
                pass_blocks(**device, unsigned(n));
            } else {
                failed = true;
                CHECK(contains(device.status().message, "CUDA: "));
                FakeDevice::get().fail_call_in(0);
            }
            CHECK(holds_as_much(FakeDevice::get().counts(), before));
            CHECK(runtime::selected() == 0);
            failures += failed;
            if (calls > 0 && calls < n) {
                break;  // each of them has failed once
            }
            REQUIRE(n < 500);
        }
        CHECK(failures > 20);
    }
}

TEST_CASE("pools: memory that is short comes back after a wait, and a refusal is no more than that") {
    const auto device = open(used_device, DeviceHeap::own_pool);
    std::byte* const first = device->allocate(1 << 20);
    REQUIRE(first);
    const int64_t waits = FakeDevice::get().counts().waits;
    FakeDevice::get().fail_call_in(1);
    std::byte* const second = device->allocate(1 << 20);
    CHECK(second != nullptr);
    CHECK(FakeDevice::get().counts().waits == waits + 1);
    device->release(first);
    device->release(second);
}

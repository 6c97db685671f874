// The device's own part: memory in order with what steps have queued, what stores found, failures, and what there is without a device.
#include <doctest/doctest.h>
#include <numeric>
#include <string>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "kernels/cuda/records.h"
#include "kernels/cuda/runtime.h"
#include "kernels/simt/table.h"
#include "tests/cuda/device_rig.h"
#include "tests/cuda/emulated_device.h"

using namespace kvc_test;
using kvc::simt::FakeDevice;

namespace {

std::vector<std::byte> numbered(int64_t n, unsigned first) {
    std::vector<std::byte> bytes(static_cast<size_t>(n));
    for (size_t i = 0; i < bytes.size(); i++) {
        bytes[i] = std::byte((first + i * 7) & 0xff);
    }
    return bytes;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("device: open says what there is, and why there is none") {
    CHECK(*kvc::device_count() == 2);
    CHECK(std::string(open(0)->name()) == "emulated 0");
    CHECK(std::string(open(1)->name()) == "emulated 1");
    for (const int64_t ordinal : {-1, 2}) {
        const auto refused = kvc::open_device(ordinal);
        REQUIRE(!refused.ok());
        CHECK(refused.status().code == kvc::Code::argument);
        CHECK(contains(refused.status().message, "is out of range (devices = 2)"));
    }
    // The runtime has one sentence for no driver and for an old one: what to do differs.
    const char* const insufficient = "CUDA driver version is insufficient for CUDA runtime version";
    const struct {
        const char* reason;
        int driver;
        const char* said;
    } cases[] = {
        {insufficient, 0, "no NVIDIA driver was found; install one, or give this container the host's, until nvidia-smi answers"},
        {insufficient, 12040, "the NVIDIA driver serves CUDA 12.4 at most and this build of kvc needs 13.0; update the driver"},
        {"no CUDA-capable device is detected", 13010,
         "the NVIDIA driver shows none; see what nvidia-smi and CUDA_VISIBLE_DEVICES say"}};
    for (const auto& [reason, driver, said] : cases) {
        FakeDevice::get().set_absent(reason, driver);
        const auto none = kvc::open_device(0);
        FakeDevice::get().set_absent("");
        REQUIRE(!none.ok());
        CHECK(none.status().code == kvc::Code::unsupported);
        CHECK(none.status().message == "no CUDA device: " + std::string(said) + " (" + reason + ")");
        CHECK(none.status().message.size() < 240);  // what a kvc_error holds
    }
    CHECK(std::string(kvc::device_build()) == "cuda emulated");
}

TEST_CASE("device: bytes go there, across it and back, through pinned memory and not, in pieces larger than the staging") {
    for (const uint64_t seed : {0, 5}) {
        const Order order(seed);
        const auto device = open();
        for (const int64_t n : {int64_t{1}, int64_t{255}, int64_t{5} << 20, (int64_t{9} << 20) + 13}) {
            INFO(n);
            std::byte* const a = device->allocate(n);
            std::byte* const b = device->allocate(n);
            auto* const pinned = static_cast<std::byte*>(device->allocate_pinned(n));
            const std::vector<std::byte> sent = numbered(n, unsigned(n));
            std::vector<std::byte> again = sent;
            REQUIRE(device->write(a, again.data(), n).ok());
            std::fill(again.begin(), again.end(), std::byte{0});  // write has taken it
            REQUIRE(device->copy(a, b, n).ok());
            REQUIRE(device->read(b, again.data(), n).ok());
            CHECK(again == sent);
            REQUIRE(device->read(b, pinned, n).ok());
            CHECK(std::equal(sent.begin(), sent.end(), pinned));
            pinned[0] = std::byte{99};
            REQUIRE(device->write(a, pinned, n).ok());
            REQUIRE(device->read(a, again.data(), n).ok());
            CHECK(again[0] == std::byte{99});
            device->release(a);
            device->release(b);
            device->release_pinned(pinned);
        }
        std::vector<kvc::BadStore> bad;
        CHECK(device->synchronize(&bad).ok());
        CHECK(bad.empty());
    }
}

TEST_CASE("device: the host does not touch its memory, which the address sanitizer would report") {
    const auto device = open();
    std::byte* const block = device->allocate(4096);
    REQUIRE(block);
    CHECK(reinterpret_cast<uintptr_t>(block) % 256 == 0);
#if defined(__SANITIZE_ADDRESS__)
    CHECK(__asan_address_is_poisoned(block) == 1);
    CHECK(__asan_address_is_poisoned(block + 4095) == 1);
    REQUIRE(device->write(block, numbered(4096, 1).data(), 4096).ok());
    CHECK(__asan_address_is_poisoned(block) == 1);
#endif
    device->release(block);
}

TEST_CASE("device: tokens that cannot be stored are told by tag at the next synchronize, once, whether the step has ended or not") {
    for (uint64_t seed = 0; seed < 4; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        const auto device = open();
        Rig rig(device, {.sequences = 3, .device_buffers = seed % 2 == 1}, 1, 40);
        rig.plan(70);
        rig.spoil(2, 68, 1);
        rig.spoil(2, 30, 0);
        rig.spoil(0, 5, 1);
        REQUIRE(rig.begin().ok());
        REQUIRE(rig.append().ok());
        std::vector<kvc::BadStore> bad;
        if (seed < 2) {
            rig.end();
        }
        REQUIRE(device->synchronize(&bad).ok());
        REQUIRE(bad.size() == 2);
        CHECK(bad[0].tag == 40);
        CHECK(bad[0].token == 5);
        CHECK(bad[1].tag == 42);
        CHECK(bad[1].token == 30);
        bad.clear();
        REQUIRE(device->synchronize(&bad).ok());
        CHECK(bad.empty());
        rig.end();
        // The next step begins with nothing found.
        Rig other(device, {.sequences = 3}, 2, 40);
        other.plan(70);
        REQUIRE(other.run().ok());
        REQUIRE(device->synchronize(&bad).ok());
        CHECK(bad.empty());
    }
}

TEST_CASE("device: whichever call fails, the error is told, nothing is lost, and the device serves on or says that it cannot") {
    int64_t failures = 0;
    for (int64_t n = 1;; n++) {
        INFO("call ", n);
        const Order order(uint64_t(n % 5));
        const FakeDevice::Counts before = FakeDevice::get().counts();
        bool failed = false, reached = false;
        {
            FakeDevice::get().fail_call_in(n);
            auto device = kvc::open_device(used_device);
            failed = !device.ok();
            if (device.ok()) {
                // Memory is not what is tested here.
                const int64_t used = FakeDevice::get().counts().calls - before.calls;
                FakeDevice::get().fail_call_in(0);
                auto rig = std::make_unique<Rig>(*device, RigShape{.sequences = 1, .heads = 1, .group = 1});
                rig->plan(1);
                FakeDevice::get().fail_call_in(n - used);
                reached = n > used;
                kvc::Status status = rig->run();
                std::vector<kvc::BadStore> bad;
                const kvc::Status end = (*device)->synchronize(&bad);
                failed = !status.ok() || !end.ok();
                FakeDevice::get().fail_call_in(0);
                CHECK(bad.empty());
                if (status.ok()) {
                    rig->check_outputs();
                }
                // A step that failed may be tried again; a device that does not know what it did says so in each call.
                status = rig->run();
                if (status.ok()) {
                    rig->check_outputs();
                } else {
                    CHECK(status.code == kvc::Code::device);
                    CHECK(contains(status.message, "injected failure"));
                }
            } else {
                CHECK(contains(device.status().message, "CUDA: "));
            }
        }
        const FakeDevice::Counts after = FakeDevice::get().counts();
        CHECK(after.blocks == before.blocks);
        CHECK(after.pinned_blocks == before.pinned_blocks);
        CHECK(kvc::cuda::runtime::selected() == 0);
        failures += failed;
        if (reached && !failed) {
            break;
        }
        REQUIRE(n < 500);
    }
    CHECK(failures > 60);  // so many calls there are from open to synchronize
}

TEST_CASE("device: an asynchronous fault shows at the next synchronize, and every call after it fails") {
    for (int64_t n = 1; n < 12; n++) {
        const Order order{uint64_t(n)};
        const auto device = open();
        Rig rig(device, {.sequences = 1, .heads = 1});
        rig.plan(10);
        FakeDevice::get().fault_in(n);
        const kvc::Status status = rig.run();
        std::vector<kvc::BadStore> bad;
        const kvc::Status end = device->synchronize(&bad);
        INFO("operation ", n, ": ", status.message, "; ", end.message);
        CHECK(end.code == kvc::Code::device);
        CHECK(contains(end.message, "illegal memory access"));
        rig.plan(1);
        CHECK(rig.run().code == kvc::Code::device);
    }
}

TEST_CASE("records: the host's store and codes are the kernels', byte for byte") {
    const KernelTable &kernels = *kvc::simt::cuda_table(), &host = kvc::cuda::record_table();
    for (const std::string& codec : grid_codecs()) {
        for (const auto& [k_dim, v_dim] : {std::pair{64, 64}, {112, 112}, {96, 64}, {256, 256}}) {
            if (!fits(codec, k_dim, v_dim) || !offers(kernels, codec, k_dim, v_dim)) {
                continue;
            }
            INFO(codec, " ", k_dim, " ", v_dim);
            const LayerFormat format = format_of(codec, k_dim, v_dim);
            const std::vector<float> k = gaussian(size_t(page_tokens * k_dim), 3, 50.0f), v = gaussian(size_t(page_tokens * v_dim), 4);
            std::vector<std::byte> records[2], codes[2];
            for (int side = 0; side < 2; side++) {
                const KernelTable& table = side == 0 ? kernels : host;
                records[side].assign(size_t(format.window_bytes), std::byte{0});
                codes[side].assign(size_t(format.code_bytes), std::byte{0});
                for (const auto& [first, n] : {std::pair{0, 60}, {60, 4}}) {
                    CHECK(table.store({&format, k.data() + first * k_dim, v.data() + first * v_dim, kvc::Dtype::f32, k_dim, v_dim, n,
                                       records[side].data(), false, first, false}) == -1);
                }
                if (!format.lossless) {
                    table.quantize({&format, records[side].data(), codes[side].data()});
                }
            }
            CHECK(records[0] == records[1]);
            CHECK(codes[0] == codes[1]);
        }
    }
}

TEST_CASE("records: the host refuses and clamps the numbers that the kernels do") {
    const KernelTable &kernels = *kvc::simt::cuda_table(), &host = kvc::cuda::record_table();
    for (const char* const codec : {"int4", "fp16", "bf16"}) {
        if (!offers(kernels, codec, 64, 64)) {
            continue;
        }
        const LayerFormat format = format_of(codec, 64, 64);
        for (const float number : {65504.0f, 65519.0f, 65520.0f, 3e38f, 3.4e38f, INFINITY, -INFINITY, NAN}) {
            for (const bool saturate : {false, true}) {
                INFO(std::string(codec), " ", number, saturate ? " saturate" : "");
                std::vector<float> x(3 * 64, 0.25f);
                x[64 + 7] = number;
                const auto ones = gaussian(3 * 64, 1);
                for (const bool in_values : {false, true}) {
                    std::vector<std::byte> records[2];
                    int64_t bad[2];
                    for (int side = 0; side < 2; side++) {
                        records[side].assign(size_t(format.window_bytes), std::byte{0});
                        bad[side] = (side == 0 ? kernels : host)
                                        .store({&format, in_values ? ones.data() : x.data(), in_values ? x.data() : ones.data(),
                                                kvc::Dtype::f32, 64, 64, 3, records[side].data(), false, 0, saturate});
                    }
                    CHECK(bad[0] == bad[1]);
                    if (bad[0] == -1) {
                        CHECK(records[0] == records[1]);
                    }
                }
            }
        }
    }
}

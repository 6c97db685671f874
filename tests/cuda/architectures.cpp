// Devices that the build has no code for: said before anything is asked of them, in place of a cache that its first step loses.
#include <cstdio>
#include <kvc.h>
#include <string>
#include <vector>

#include "tests/cuda/emulated_device.h"

using kvc::simt::FakeDevice;
using kvc_test::used_device;

namespace {

// As long as it lives, devices are of one architecture and the build is for others.
struct Architectures {
    Architectures(int of_devices, std::vector<int> of_code, std::vector<int> of_ptx) {
        FakeDevice::get().set_architecture(of_devices, std::move(of_code), std::move(of_ptx));
    }
    ~Architectures() { FakeDevice::get().set_architecture(kvc::simt::architecture_of_run(), {kvc::simt::architecture_of_run()}); }
    Architectures(const Architectures&) = delete;
    Architectures& operator=(const Architectures&) = delete;
};

kvc_options options_of_one_layer() {
    kvc_options o;
    kvc_options_init(&o, sizeof o);
    o.device = KVC_CUDA, o.device_ordinal = used_device;
    o.layers = 1, o.kv_heads = 1, o.k_dim = 64, o.arena_growth = 1;
    return o;
}

}  // namespace

TEST_CASE("architectures: a device that the build has no code for is refused with what it is, what the build has and what to do") {
    const kvc_options options = options_of_one_layer();
    const std::string built = kvc::device_build();
    const struct {
        int device;
        std::vector<int> code, ptx;
        std::string said;
    } cases[] = {
        {120,
         {80, 90},
         {},
         "CUDA device 1 (emulated 1) is sm_120, and this build (" + built +
             ") has no code for it; rebuild with KVC_CUDA_ARCHS=120 (no kernel image is available for execution on the device)"},
        {80,
         {86, 90},
         {121},
         "CUDA device 1 (emulated 1) is sm_80, and this build (" + built +
             ") has no code for it; rebuild with KVC_CUDA_ARCHS=80 (no kernel image is available for execution on the device)"},
        {75, {80}, {80}, "CUDA device 1 (emulated 1): compute capability 7.5 is below 8.0"},
        {120,
         {90},
         {90},
         "CUDA device 1 (emulated 1) is sm_120, and this build (" + built +
             ") has no code for it; rebuild with KVC_CUDA_ARCHS=120 (the PTX for sm_90 takes up to 227 KB of shared memory a block, "
             "and "
             "the device has 99)"},
        {121,
         {80},
         {80, 100},
         "CUDA device 1 (emulated 1) is sm_121, and this build (" + built +
             ") has no code for it; rebuild with KVC_CUDA_ARCHS=121 (the PTX for sm_100 takes up to 227 KB of shared memory a block, "
             "and "
             "the device has 99)"},
        {89, {80, 90}, {}, ""},
        {120, {80, 120}, {}, ""},
        {120, {90}, {80}, ""},
        {103, {90}, {90}, ""},
        {121, {120}, {100, 120}, ""},
    };
    for (const auto& [device, code, ptx, said] : cases) {
        INFO("device ", device);
        const Architectures architectures(device, code, ptx);
        const FakeDevice::Counts before = FakeDevice::get().counts();
        kvc_error error = {sizeof error, 0, ""};
        const kvc_status expected = said.empty() ? KVC_OK : KVC_E_UNSUPPORTED;
        CHECK(kvc_supports(&options, nullptr, 0, &error) == expected);
        CHECK(error.message == said);
        error = {sizeof error, 0, ""};
        kvc_cache* const cache = kvc_create(&options, nullptr, 0, &error);
        CHECK((cache != nullptr) == said.empty());
        CHECK(error.status == expected);
        CHECK(error.message == said);
        CHECK((!cache || kvc_destroy(cache, nullptr) == KVC_OK));
        const FakeDevice::Counts after = FakeDevice::get().counts();
        CHECK(after.blocks == before.blocks);
        CHECK(after.operations == before.operations);
        CHECK((said.empty() || after.allocations == before.allocations));
    }
}

// The largest ring of a decode kernel, int8 at head dim 256, in the code that a device runs, whatever it is.
TEST_CASE("architectures: where a cache opens, its steps run: no block asks for more shared memory than the device has") {
    const struct {
        int device;
        std::vector<int> code, ptx;
    } cases[] = {{80, {80}, {}},    {89, {80}, {}},   {90, {90}, {}},  {100, {}, {90}},
                 {120, {90}, {80}}, {120, {120}, {}}, {121, {}, {120}}};
    for (const auto& [device, code, ptx] : cases) {
        INFO("device ", device);
        const Architectures architectures(device, code, ptx);
        kvc_options options = options_of_one_layer();
        options.k_dim = 256;
        std::snprintf(options.codec, sizeof options.codec, "int8");
        kvc_error error = {sizeof error, 0, ""};
        kvc_cache* const cache = kvc_create(&options, nullptr, 0, &error);
        INFO(error.message);
        REQUIRE(cache != nullptr);
        const kvc_seq seq = kvc_seq_create(cache, nullptr, &error);
        for (const int64_t count : {int64_t{130}, int64_t{1}}) {
            const std::vector<float> rows(size_t(count * 256), 0.5f);
            std::vector<float> out(rows.size());
            const int64_t bytes = int64_t(rows.size()) * 4;
            kvc_step* const step = kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, &error);
            REQUIRE(step != nullptr);
            CHECK(kvc_append(step, 0, rows.data(), bytes, rows.data(), bytes, &error) == KVC_OK);
            CHECK(kvc_attend(step, 0, rows.data(), bytes, out.data(), bytes, nullptr, 0, nullptr, &error) == KVC_OK);
            INFO(error.message);
            CHECK(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
            CHECK(out.back() == doctest::Approx(0.5).epsilon(0.02));
        }
        CHECK(kvc_destroy(cache, &error) == KVC_OK);
    }
}

TEST_CASE("architectures: a device is named without being opened, so also where the build has no code, or the card no memory") {
    const Architectures architectures(120, {80}, {});
    const FakeDevice::Counts before = FakeDevice::get().counts();
    kvc_error error = {sizeof error, 0, ""};
    char name[16] = "";
    CHECK(kvc_device_describe(KVC_CUDA, used_device, name, sizeof name, &error) == 11);
    CHECK(std::string(name) == "emulated 1");
    const FakeDevice::Counts after = FakeDevice::get().counts();
    CHECK(after.allocations == before.allocations);
    CHECK(after.calls == before.calls + 1);
}

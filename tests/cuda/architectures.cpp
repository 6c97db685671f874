// Devices that the build has no code for: said before anything is asked of them, in place of a cache that its first step loses.
#include <kvc.h>
#include <string>

#include "tests/cuda/emulated_device.h"

using kvc::simt::FakeDevice;
using kvc_test::used_device;

namespace {

// As long as it lives, devices are of one architecture and the build is for others.
struct Architectures {
    Architectures(int of_devices, std::vector<int> of_code) { FakeDevice::get().set_architecture(of_devices, std::move(of_code)); }
    ~Architectures() { FakeDevice::get().set_architecture(90, {90}); }
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
        std::vector<int> code;
        std::string said;
    } cases[] = {
        {120,
         {80, 90},
         "CUDA device 1 (emulated 1) is sm_120, and this build (" + built +
             ") has no code for it; rebuild with KVC_CUDA_ARCHS=120 (no kernel image is available for execution on the device)"},
        {80,
         {86, 90},
         "CUDA device 1 (emulated 1) is sm_80, and this build (" + built +
             ") has no code for it; rebuild with KVC_CUDA_ARCHS=80 (no kernel image is available for execution on the device)"},
        {75, {80}, "CUDA device 1 (emulated 1): compute capability 7.5 is below 8.0"},
        {89, {80, 90}, ""},
        {120, {80, 120}, ""},
    };
    for (const auto& [device, code, said] : cases) {
        INFO("device ", device);
        const Architectures architectures(device, code);
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
        char name[16];
        CHECK((kvc_device_describe(KVC_CUDA, used_device, name, sizeof name, &error) > 0) == said.empty());
        const FakeDevice::Counts after = FakeDevice::get().counts();
        CHECK(after.blocks == before.blocks);
        CHECK(after.operations == before.operations);
        CHECK((said.empty() || after.allocations == before.allocations));
    }
}

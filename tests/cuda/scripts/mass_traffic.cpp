// What policies by attention mass bring to the host: as much as they keep, not as much as there has been.
#include <algorithm>

#include "tests/cuda/scripts/device_cache.h"

using namespace kvc_cuda_scripts;
using kvc::simt::FakeDevice;

TEST_CASE("cuda mass: with a budget, a thousand steps bring as many bytes to the host each as the first hundred") {
    for (const char* policy : {"h2o:128", "h2o:128,mass=page"}) {
        CAPTURE(policy);
        DeviceCache cache({.codec = "k=int4.ch.g32.m8,v=int4.tok.ls,window=5,sinks=3", .policy = policy, .arena_tokens = 1024});
        const auto bytes_of_steps = [&](int n) {
            const int64_t before = FakeDevice::get().counts().bytes_out;
            for (int i = 0; i < n; i++)
                cache.step();
            return FakeDevice::get().counts().bytes_out - before;
        };
        bytes_of_steps(130);
        int64_t first = bytes_of_steps(128), later = 0;
        for (int i = 0; i < 6; i++)
            later = std::max(later, bytes_of_steps(128));
        // Which pages hold the tokens that are kept is another matter at each eviction.
        CHECK(later <= first + first / 4);
        const int64_t allocations = FakeDevice::get().counts().allocations;
        bytes_of_steps(64);
        CHECK(FakeDevice::get().counts().allocations == allocations);
    }
}

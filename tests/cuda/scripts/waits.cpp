// How far the host runs ahead of the device, and that every wait for it is counted where kvc.h says so.
#include <algorithm>

#include "tests/cuda/scripts/device_cache.h"
#include "tests/laws/device_session.h"
#include "tests/laws/policy_session.h"

using namespace kvc_cuda_scripts;
using namespace kvc_laws;
using kvc::simt::FakeDevice;

namespace {

// What happened since it was made.
struct Watch {
    explicit Watch(const DeviceCache& cache) : cache_(cache), waits_(waits_so_far()), counted_(cache.synchronizations()) {}
    int64_t waits() const { return waits_so_far() - waits_; }
    int64_t counted() const { return cache_.synchronizations() - counted_; }

private:
    const DeviceCache& cache_;
    const int64_t waits_, counted_;
};

int64_t synchronizations(Session& session) {
    kvc_stats stats = {};
    stats.struct_size = sizeof stats;
    REQUIRE(kvc_stats_get(session.replay.cache(), &stats, nullptr) == KVC_OK);
    return stats.synchronizations;
}

}  // namespace

TEST_CASE("cuda waits: the host runs two whole steps ahead of the device, whatever the layers and the batch; all waits are counted") {
    struct Run {
        DeviceShape shape;
        int steps;
    };
    for (const Run& run : {Run{{.layers = 1}, 200}, Run{{.layers = 32}, 4}, Run{{.layers = 80}, 3}, Run{{.layers = 2, .batch = 64}, 8},
                           Run{{.layers = 16, .batch = 16}, 4}}) {
        CAPTURE(run.shape.layers);
        CAPTURE(run.shape.batch);
        DeviceCache cache(run.shape);
        cache.step();
        REQUIRE(kvc_synchronize(cache.get(), nullptr) == KVC_OK);
        const HeldDevice held(7);
        const Watch watch(cache);
        const int64_t allocations = FakeDevice::get().counts().allocations;
        for (int i = 0; i < run.steps; i++) {
            cache.step();
            if (i < 2) CHECK(watch.waits() == 0);
        }
        CHECK(watch.waits() == watch.counted());
        CHECK(FakeDevice::get().counts().allocations - allocations <= 2 * std::min(run.steps, 65));  // for what each step finds
    }
}

TEST_CASE("cuda waits: a device that keeps up is never waited for, however many steps there are") {
    DeviceCache cache({.layers = 4});
    cache.step();
    const Watch watch(cache);
    for (int i = 0; i < 150; i++)
        cache.step();
    CHECK(watch.waits() == 0);
    CHECK(watch.counted() == 0);
}

TEST_CASE("cuda waits: copies of buffers, either way, and buffers of memory that was given back are counted") {
    constexpr int64_t bytes = int64_t{8} << 20;
    DeviceCache cache({});
    cache.step();
    const HeldDevice held(3);
    void* device = kvc_buffer_create(cache.get(), KVC_BUFFER_DEVICE, bytes, nullptr);
    void* const pinned = kvc_buffer_create(cache.get(), KVC_BUFFER_PINNED, bytes, nullptr);
    REQUIRE((device && pinned));
    std::vector<char> pageable(bytes);
    for (void* const host : {pinned, static_cast<void*>(pageable.data())}) {
        CAPTURE(host == pinned);
        const Watch to(cache);
        REQUIRE(kvc_buffer_copy(cache.get(), device, KVC_CUDA, host, KVC_CPU, bytes, nullptr) == KVC_OK);
        CHECK(to.waits() > 0);
        CHECK(to.counted() == to.waits());
        const Watch from(cache);
        REQUIRE(kvc_buffer_copy(cache.get(), host, KVC_CPU, device, KVC_CUDA, bytes, nullptr) == KVC_OK);
        CHECK(from.waits() > 0);
        CHECK(from.counted() == from.waits());
    }
    REQUIRE(kvc_buffer_destroy(cache.get(), KVC_BUFFER_DEVICE, device, nullptr) == KVC_OK);
    const Watch again(cache);
    device = kvc_buffer_create(cache.get(), KVC_BUFFER_DEVICE, bytes, nullptr);
    REQUIRE(device != nullptr);
    CHECK(again.waits() == 1);
    CHECK(again.counted() == 1);
}

TEST_CASE("cuda waits: hundreds of small copies to the device wait for nothing") {
    DeviceCache cache({});
    cache.step();
    const HeldDevice held(5);
    void* const device = kvc_buffer_create(cache.get(), KVC_BUFFER_DEVICE, 4096, nullptr);
    REQUIRE(device != nullptr);
    const std::vector<char> numbers(4096);
    const Watch watch(cache);
    for (int i = 0; i < 500; i++)
        REQUIRE(kvc_buffer_copy(cache.get(), device, KVC_CUDA, numbers.data(), KVC_CPU, 4096, nullptr) == KVC_OK);
    CHECK(watch.waits() == 0);
    CHECK(watch.counted() == 0);
}

TEST_CASE("cuda waits: whatever a cache is asked, with buffers of the host and policies of every kind, its waits are counted") {
    for (const std::string policy :
         {"streaming:100", "h2o:100", "h2o:100,mass=page", "key_norm:100", "key_norm:100,merge=keys+values"}) {
        CAPTURE(policy);
        FakeDevice::get().set_order(11);
        Session cuda = open_on(
            KVC_CUDA, "layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=64 codec=" + short_window("int4", 5, 3) + " policy=" + policy);
        const int64_t waits = waits_so_far();
        cuda.ok("seq a data=3");
        feed(cuda, "a", 300, 64);
        cuda.ok("fork b a length=" + std::to_string(cuda.number("length a")));
        cuda.ok("read b part=keys");
        (void)cuda.stored("a");
        REQUIRE(kvc_synchronize(cuda.replay.cache(), nullptr) == KVC_OK);
        CHECK(waits_so_far() - waits == synchronizations(cuda));
        FakeDevice::get().set_order(0);
    }
}

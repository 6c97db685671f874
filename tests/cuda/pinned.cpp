// Pinned memory of kvc_buffer_create: steps take it as the device's, and it goes only when nothing that was queued uses it any more.
#include <kvc.h>
#include <vector>

#include "tests/cuda/emulated_device.h"

using kvc::simt::FakeDevice;
using kvc_test::Order;
using kvc_test::used_device;

namespace {

constexpr int64_t dim = 64, bytes = dim * 4, block_bytes = int64_t{8} << 20;

class PinnedCache {
public:
    PinnedCache() {
        kvc_options o;
        kvc_options_init(&o, sizeof o);
        o.device = KVC_CUDA, o.device_ordinal = used_device;
        o.layers = 1, o.kv_heads = 1, o.k_dim = dim, o.arena_growth = 1;
        cache = kvc_create(&o, nullptr, 0, &error);
        REQUIRE(cache != nullptr);
        seq = kvc_seq_create(cache, nullptr, &error);
        pinned = static_cast<float*>(kvc_buffer_create(cache, KVC_BUFFER_PINNED, block_bytes, &error));
        REQUIRE(pinned != nullptr);
        for (int64_t i = 0; i < 3 * dim; i++) {
            pinned[i] = float(i % 16 + 1);
        }
    }
    ~PinnedCache() { CHECK(kvc_destroy(cache, &error) == KVC_OK); }
    PinnedCache(const PinnedCache&) = delete;
    PinnedCache& operator=(const PinnedCache&) = delete;

    // A token whose keys, values, queries, output and log-sum-exp lie there.
    void step() {
        kvc_step_options o;
        kvc_step_options_init(&o, sizeof o);
        o.buffers = KVC_CUDA;
        const int64_t count = 1;
        kvc_step* const step = kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, &o, &error);
        REQUIRE(step != nullptr);
        CHECK(kvc_append(step, 0, pinned, bytes, pinned + dim, bytes, &error) == KVC_OK);
        CHECK(kvc_attend(step, 0, pinned + 2 * dim, bytes, pinned + 3 * dim, bytes, pinned + 4 * dim, 4, nullptr, &error) == KVC_OK);
        CHECK(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
    }
    int64_t waits() {
        kvc_stats stats = {};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_stats_get(cache, &stats, &error) == KVC_OK);
        return stats.synchronizations;
    }

    kvc_cache* cache = nullptr;
    kvc_seq seq = 0;
    float* pinned = nullptr;
    kvc_error error = {sizeof error, 0, ""};
};

}  // namespace

TEST_CASE("pinned: steps read and write it as the device's, and its end waits for them and counts that") {
    const Order order(3);
    PinnedCache c;
    REQUIRE(kvc_synchronize(c.cache, &c.error) == KVC_OK);
    FakeDevice::get().hold(true);
    c.step();
    CHECK(FakeDevice::get().counts().waiting > 0);
    const int64_t before = c.waits();
    CHECK(kvc_buffer_destroy(c.cache, KVC_BUFFER_PINNED, c.pinned, &c.error) == KVC_OK);
    CHECK(FakeDevice::get().counts().waiting == 0);
    CHECK(c.waits() == before + 1);
    FakeDevice::get().hold(false);
    std::vector<float> stored(size_t(dim), 0.0f);
    CHECK(kvc_seq_read(c.cache, c.seq, 0, 0, KVC_VALUES, 0, 1, stored.data(), bytes, &c.error) == KVC_OK);
    for (int64_t i = 0; i < dim; i++) {
        CHECK(stored[size_t(i)] == float(i % 16 + 1));
    }
}

TEST_CASE("pinned: what a step wrote there is the host's to read after a wait; to a copy it is the host's") {
    const Order order(0);
    PinnedCache c;
    c.step();
    REQUIRE(kvc_synchronize(c.cache, &c.error) == KVC_OK);
    for (int64_t i = 0; i < dim; i++) {
        CHECK(c.pinned[3 * dim + i] == doctest::Approx(double(i % 16 + 1)).epsilon(0.01));  // one token: its values
    }
    CHECK(c.pinned[4 * dim] == c.pinned[4 * dim]);
    void* const there = kvc_buffer_create(c.cache, KVC_BUFFER_DEVICE, bytes, &c.error);
    CHECK(kvc_buffer_copy(c.cache, there, KVC_CUDA, c.pinned, KVC_CPU, bytes, &c.error) == KVC_OK);
    CHECK(kvc_buffer_copy(c.cache, there, KVC_CUDA, c.pinned, KVC_CUDA, bytes, &c.error) == KVC_E_ARGUMENT);
    CHECK(kvc_buffer_destroy(c.cache, KVC_BUFFER_DEVICE, there, &c.error) == KVC_OK);
}

TEST_CASE("pinned: what cannot be waited for stays until the cache goes") {
    const Order order(0);
    const int64_t before = FakeDevice::get().counts().pinned_blocks;
    {
        PinnedCache c;
        const int64_t with = FakeDevice::get().counts().pinned_blocks;
        FakeDevice::get().fail_call_in(1);
        CHECK(kvc_buffer_destroy(c.cache, KVC_BUFFER_PINNED, c.pinned, &c.error) == KVC_OK);
        CHECK(FakeDevice::get().counts().pinned_blocks == with);
        CHECK(kvc_buffer_destroy(c.cache, KVC_BUFFER_PINNED, c.pinned, &c.error) == KVC_E_ARGUMENT);
    }
    CHECK(FakeDevice::get().counts().pinned_blocks == before);
}

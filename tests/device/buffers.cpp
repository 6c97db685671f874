// Callers' buffers in a device's memory.
#include <cstring>
#include <kvc.h>
#include <vector>

#include "doctest/doctest.h"
#include "tests/reference/plain_device.h"

namespace {

constexpr int64_t kv_heads = 2, q_heads = 4, dim = 32, tokens = 70;

kvc_cache* cache_on(int32_t device) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.device = device;
    options.layers = 1, options.kv_heads = kv_heads, options.q_heads = q_heads, options.k_dim = dim;
    options.arena_growth = 1;
    std::strcpy(options.codec, "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=2,sinks=1");
    return kvc_create(&options, nullptr, 0, nullptr);
}

std::vector<float> numbers(int64_t n, int64_t salt) {
    std::vector<float> x(size_t(n), 0.0f);
    for (int64_t i = 0; i < n; i++)
        x[size_t(i)] = float((i * 37 + salt * 101) % 257) / 64 - 2;
    return x;
}

// A buffer of the cache's device with these numbers.
float* on_device(kvc_cache* cache, const std::vector<float>& x) {
    const int64_t bytes = int64_t(x.size() * sizeof(float));
    void* const buffer = kvc_buffer_create(cache, KVC_BUFFER_DEVICE, bytes, nullptr);
    REQUIRE(buffer != nullptr);
    REQUIRE(kvc_buffer_copy(cache, buffer, KVC_CUDA, x.data(), KVC_CPU, bytes, nullptr) == KVC_OK);
    return static_cast<float*>(buffer);
}

int64_t bytes_of(const std::vector<float>& x) { return int64_t(x.size() * sizeof(float)); }

kvc_stats stats_of(kvc_cache* cache) {
    kvc_stats stats = {};
    stats.struct_size = sizeof stats;
    REQUIRE(kvc_stats_get(cache, &stats, nullptr) == KVC_OK);
    return stats;
}

kvc_step* begin(kvc_cache* cache, kvc_seq seq, int32_t buffers) {
    kvc_step_options options;
    kvc_step_options_init(&options, sizeof options);
    options.buffers = buffers;
    return kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, &options, nullptr);
}

}  // namespace

TEST_CASE("buffers: on the device they give what buffers on the host give, and no call waits") {
    const std::vector<float> k = numbers(tokens * kv_heads * dim, 1), v = numbers(tokens * kv_heads * dim, 2);
    const std::vector<float> q = numbers(tokens * q_heads * dim, 3);
    std::vector<float> host(q.size()), device(q.size()), lse(size_t(tokens * q_heads)), device_lse(lse.size());
    kvc_cache* const cache = cache_on(KVC_CUDA);
    REQUIRE(cache != nullptr);
    const kvc_seq a = kvc_seq_create(cache, nullptr, nullptr), b = kvc_seq_create(cache, nullptr, nullptr);
    kvc_step* step = begin(cache, a, KVC_CPU);
    REQUIRE(kvc_append(step, 0, k.data(), bytes_of(k), v.data(), bytes_of(v), nullptr) == KVC_OK);
    REQUIRE(kvc_attend(step, 0, q.data(), bytes_of(q), host.data(), bytes_of(host), lse.data(), bytes_of(lse), nullptr, nullptr) ==
            KVC_OK);
    REQUIRE(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
    CHECK(stats_of(cache).synchronizations == 1);
    CHECK(stats_of(cache).bytes_staged == bytes_of(k) + bytes_of(v) + bytes_of(q) + bytes_of(host) + bytes_of(lse));

    float *const dk = on_device(cache, k), *const dv = on_device(cache, v), *const dq = on_device(cache, q);
    float *const out = on_device(cache, host), *const out_lse = on_device(cache, lse);
    const kvc_stats before = stats_of(cache);
    step = begin(cache, b, KVC_CUDA);
    REQUIRE(step != nullptr);
    REQUIRE(kvc_append(step, 0, dk, bytes_of(k), dv, bytes_of(v), nullptr) == KVC_OK);
    REQUIRE(kvc_attend(step, 0, dq, bytes_of(q), out, bytes_of(host), out_lse, bytes_of(lse), nullptr, nullptr) == KVC_OK);
    REQUIRE(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
    CHECK(stats_of(cache).synchronizations == before.synchronizations);
    CHECK(stats_of(cache).bytes_staged == before.bytes_staged);
    REQUIRE(kvc_buffer_copy(cache, device.data(), KVC_CPU, out, KVC_CUDA, bytes_of(host), nullptr) == KVC_OK);
    REQUIRE(kvc_buffer_copy(cache, device_lse.data(), KVC_CPU, out_lse, KVC_CUDA, bytes_of(lse), nullptr) == KVC_OK);
    CHECK(device == host);
    CHECK(device_lse == lse);
    CHECK(stats_of(cache).synchronizations == before.synchronizations + 2);
    REQUIRE(kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, dk, nullptr) == KVC_OK);
    CHECK(kvc_buffer_destroy(cache, KVC_BUFFER_DEVICE, dk, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_buffer_destroy(cache, KVC_BUFFER_PINNED, dv, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);  // takes the other buffers with it
}

TEST_CASE("buffers: a device that takes no memory from the caller's functions says so, and calls none") {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.device = KVC_CUDA;
    options.layers = 1, options.kv_heads = kv_heads, options.k_dim = dim, options.arena_bytes = 1 << 20;
    CHECK(kvc_supports(&options, nullptr, 0, nullptr) == KVC_OK);
    int calls = 0;
    options.allocator_context = &calls;
    options.allocate = [](void* context, int64_t, int64_t) -> void* { return ++*static_cast<int*>(context), nullptr; };
    options.release = [](void* context, void*, int64_t) { ++*static_cast<int*>(context); };
    CHECK(kvc_supports(&options, nullptr, 0, nullptr) == KVC_E_UNSUPPORTED);
    CHECK(kvc_create(&options, nullptr, 0, nullptr) == nullptr);
    CHECK(calls == 0);
}

TEST_CASE("buffers: what has no device, or is on another side, is refused") {
    kvc_cache* const host = cache_on(KVC_CPU);
    const kvc_seq seq = kvc_seq_create(host, nullptr, nullptr);
    CHECK(begin(host, seq, KVC_CUDA) == nullptr);
    CHECK(kvc_buffer_create(host, KVC_BUFFER_DEVICE, 64, nullptr) == nullptr);
    float x = 0, y = 0;
    CHECK(kvc_buffer_copy(host, &x, KVC_CUDA, &y, KVC_CPU, 4, nullptr) == KVC_E_UNSUPPORTED);
    CHECK(kvc_synchronize(host, nullptr) == KVC_OK);
    CHECK(kvc_destroy(host, nullptr) == KVC_OK);
    kvc_cache* const device = cache_on(KVC_CUDA);
    CHECK(kvc_buffer_copy(device, &x, KVC_CPU, &y, KVC_CPU, 4, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_buffer_create(device, KVC_BUFFER_DEVICE, 0, nullptr) == nullptr);
    // Memory of the wrong side, or too little of it, costs the call and not the cache.
    float* const there = on_device(device, {1, 2});
    kvc_error error = {sizeof error, 0, ""};
    CHECK(kvc_buffer_copy(device, &x, KVC_CUDA, &y, KVC_CPU, 4, &error) == KVC_E_ARGUMENT);
    CHECK(std::string(error.message) == "buffer_copy: to is memory of the host");
    CHECK(kvc_buffer_copy(device, &x, KVC_CPU, &y, KVC_CUDA, 4, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_buffer_copy(device, there, KVC_CPU, there, KVC_CUDA, 4, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_buffer_copy(device, there, KVC_CUDA, there, KVC_CUDA, 1 << 20, nullptr) == KVC_E_ARGUMENT);
    CHECK(kvc_buffer_copy(device, &x, KVC_CPU, there, KVC_CUDA, 4, nullptr) == KVC_OK);
    CHECK(x == 1);
    CHECK(kvc_buffer_create(device, KVC_BUFFER_UNSET, 64, nullptr) == nullptr);
    CHECK(kvc_device_count(KVC_CUDA, nullptr) == kvc_target_count());
    char name[32];
    REQUIRE(kvc_device_describe(KVC_CUDA, 0, name, sizeof name, nullptr) > 0);
    CHECK(std::string(name) == "plain memory");
    CHECK(kvc_device_describe(KVC_CUDA, 99, name, sizeof name, nullptr) == 0);
    CHECK(kvc_destroy(device, nullptr) == KVC_OK);
}

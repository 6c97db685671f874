// Devices as a build without a backend for them answers: there is none, and why.
#include <cstring>
#include <kvc.h>
#include <string>

#include "doctest/doctest.h"

TEST_CASE("devices: the CPU is one; a kind that is none, and one that this machine lacks, are refused with the reason") {
    kvc_error error = {};
    error.struct_size = sizeof error;
    CHECK(kvc_device_count(KVC_CPU, &error) == 1);
    char name[32];
    CHECK(kvc_device_describe(KVC_CPU, 0, name, sizeof name, &error) == int64_t(std::strlen(kvc_target_name(0))) + 1);
    CHECK(std::string(name) == kvc_target_name(0));
    CHECK(kvc_device_describe(KVC_CPU, 1, name, sizeof name, &error) == 0);
    CHECK(kvc_device_count(7, &error) == 0);
    CHECK(error.status == KVC_E_ARGUMENT);
    if (kvc_device_count(KVC_CUDA, &error) > 0) return;  // a machine that has one
    CHECK(error.status == KVC_E_UNSUPPORTED);
    CHECK(std::strlen(error.message) > 10);
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1, options.kv_heads = 1, options.k_dim = 64, options.arena_tokens = 64;
    options.device = KVC_CUDA;
    CHECK(kvc_supports(&options, nullptr, 0, &error) == KVC_E_UNSUPPORTED);
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_UNSUPPORTED);
}

TEST_CASE("devices: a cache on the host has no streams, no buffers of a device's, and nothing to wait for") {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1, options.kv_heads = 1, options.k_dim = 64, options.arena_tokens = 64;
    kvc_cache* const cache = kvc_create(&options, nullptr, 0, nullptr);
    REQUIRE(cache != nullptr);
    const kvc_seq seq = kvc_seq_create(cache, nullptr, nullptr);
    const int64_t count = 1;
    kvc_error error = {};
    error.struct_size = sizeof error;
    const auto refused = [&](auto set) {
        kvc_step_options step;
        kvc_step_options_init(&step, sizeof step);
        set(step);
        error.status = 0;
        return kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, &step, &error) == nullptr && error.status == KVC_E_ARGUMENT;
    };
    CHECK(refused([](kvc_step_options& step) { step.buffers = KVC_CUDA; }));
    CHECK(refused([](kvc_step_options& step) { step.buffers = 9; }));
    CHECK(refused([&](kvc_step_options& step) { step.stream = &options; }));
    CHECK(kvc_synchronize(cache, &error) == KVC_OK);
    CHECK(kvc_synchronize(nullptr, &error) == KVC_E_HANDLE);
    CHECK(kvc_buffer_create(cache, KVC_BUFFER_PINNED, 64, &error) == nullptr);
    CHECK(error.status == KVC_E_UNSUPPORTED);
    CHECK(kvc_buffer_destroy(cache, KVC_BUFFER_PINNED, &options, &error) == KVC_E_UNSUPPORTED);
    CHECK(kvc_graph_create(cache, &count, 1, 64, 0, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_UNSUPPORTED);
    CHECK(std::string(error.message) == "graph_create: the cache is on the host, where no launches can be captured");
    CHECK(kvc_graph_create(cache, nullptr, 1, 64, 0, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    CHECK(kvc_graph_create(cache, &count, 0, 64, 0, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    CHECK(kvc_graph_destroy(nullptr, &error) == KVC_E_HANDLE);
    kvc_step_options step;
    kvc_step_options_init(&step, sizeof step);
    step.graph = reinterpret_cast<kvc_graph*>(cache);  // a live handle, of another kind
    CHECK(kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, &step, &error) == nullptr);
    CHECK(error.status == KVC_E_HANDLE);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

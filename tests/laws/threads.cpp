// Threads: steps over different sequences of one cache run side by side and compute what they compute alone, bit for bit.
#include <atomic>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <thread>
#include <vector>

#include "kvc.h"

namespace {

constexpr int64_t layers = 2, heads = 2, group = 2, dim = 32;

kvc_cache* cache_with(int64_t threads, const char* codec) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = layers;
    options.kv_heads = heads;
    options.q_heads = heads * group;
    options.k_dim = dim;
    options.arena_bytes = 32 << 20;
    options.threads = threads;
    std::strcpy(options.codec, codec);
    return kvc_create(&options, nullptr, 0, nullptr);
}

std::vector<float> numbers(int64_t n, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> out(static_cast<size_t>(n));
    for (float& x : out)
        x = normal(random);
    return out;
}

// Reads a prompt, decodes, forks, evicts and decodes on; everything that came out.
std::vector<float> life(kvc_cache* cache, uint32_t seed, std::atomic<int>* failures) {
    kvc_error err = {sizeof err, 0, {}};
    std::vector<float> all;
    const auto expect = [&](bool ok) { *failures += !ok; };
    kvc_seq_options options;
    kvc_seq_options_init(&options, sizeof options);
    options.prompt_length = 200;
    kvc_seq seq = kvc_seq_create(cache, &options, &err);
    const auto step = [&](kvc_seq on, int64_t n, uint32_t step_seed) {
        kvc_step* s = kvc_step_begin(cache, &on, &n, 1, nullptr, 0, nullptr, &err);
        expect(s != nullptr);
        for (int64_t layer = 0; layer < layers && s; layer++) {
            const std::vector<float> k = numbers(n * heads * dim, step_seed), v = numbers(n * heads * dim, step_seed + 1);
            const std::vector<float> q = numbers(n * heads * group * dim, step_seed + 2);
            std::vector<float> out(q.size());
            expect(kvc_append(s, layer, k.data(), int64_t(k.size() * 4), v.data(), int64_t(v.size() * 4), &err) == KVC_OK);
            expect(kvc_attend(s, layer, q.data(), int64_t(q.size() * 4), out.data(), int64_t(out.size() * 4), nullptr, 0, nullptr,
                              &err) == KVC_OK);
            all.insert(all.end(), out.begin(), out.end());
        }
        expect(kvc_step_commit(s, nullptr, 0, &err) == KVC_OK);
    };
    step(seq, 200, seed);
    for (uint32_t i = 0; i < 5; i++)
        step(seq, 1 + i % 3, seed + 10 * i);
    const kvc_seq fork = kvc_seq_fork(cache, seq, 200, KVC_CUT_EXACT, &err);
    expect(fork != 0);
    kvc_evict_options evict;
    kvc_evict_options_init(&evict, sizeof evict);
    evict.budget = 150;
    expect(kvc_evict(cache, seq, nullptr, 0, &evict, nullptr, &err) == KVC_OK);
    step(seq, 70, seed + 100);
    step(fork, 3, seed + 200);
    kvc_stats stats = {sizeof stats};
    expect(kvc_stats_get(cache, &stats, &err) == KVC_OK);
    expect(kvc_seq_destroy(cache, seq, &err) == KVC_OK);
    expect(kvc_seq_destroy(cache, fork, &err) == KVC_OK);
    return all;
}

}  // namespace

TEST_CASE("threads: sequences of one cache live side by side as they live alone") {
    constexpr uint32_t lives = 6;
    for (const char* codec : {"int4", "fp16", "k=int8.ch.g32.m8,v=int2.tok.rot.ls,window=0,sinks=0"}) {
        std::atomic<int> failures{0};
        std::vector<std::vector<float>> alone;
        kvc_cache* single = cache_with(0, codec);
        REQUIRE(single != nullptr);
        for (uint32_t i = 0; i < lives; i++)
            alone.push_back(life(single, 1000 * i, &failures));
        kvc_cache* shared = cache_with(2, codec);
        REQUIRE(shared != nullptr);
        std::vector<std::vector<float>> together(lives);
        std::vector<std::thread> threads;
        for (uint32_t i = 0; i < lives; i++)
            threads.emplace_back([&, i] { together[i] = life(shared, 1000 * i, &failures); });
        for (std::thread& thread : threads)
            thread.join();
        CHECK(failures == 0);
        for (uint32_t i = 0; i < lives; i++) {
            REQUIRE(together[i].size() == alone[i].size());
            CHECK(std::memcmp(together[i].data(), alone[i].data(), alone[i].size() * sizeof(float)) == 0);
        }
        kvc_stats stats = {sizeof stats};
        CHECK(kvc_stats_get(shared, &stats, nullptr) == KVC_OK);
        CHECK(stats.record_bytes == 0);
        CHECK(stats.bound_bytes == 0);
        CHECK(kvc_destroy(single, nullptr) == KVC_OK);
        CHECK(kvc_destroy(shared, nullptr) == KVC_OK);
    }
}

TEST_CASE("threads: a cache destroyed under running calls lets them finish and refuses the next") {
    for (int round = 0; round < 20; round++) {
        kvc_cache* cache = cache_with(1, "int4");
        REQUIRE(cache != nullptr);
        std::atomic<bool> wrong{false};
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; i++) {
            threads.emplace_back([&, i] {
                const std::vector<float> x = numbers(heads * group * dim * 40, uint32_t(i));
                std::vector<float> out(x.size());
                for (int turn = 0; turn < 200; turn++) {
                    kvc_error err = {sizeof err, 0, {}};
                    const kvc_seq seq = kvc_seq_create(cache, nullptr, &err);
                    const int64_t n = 20;
                    kvc_step* step = seq ? kvc_step_begin(cache, &seq, &n, 1, nullptr, 0, nullptr, &err) : nullptr;
                    if (step) kvc_append(step, 0, x.data(), int64_t(x.size() * 4), x.data(), int64_t(x.size() * 4), &err);
                    if (step)
                        kvc_attend(step, 0, x.data(), int64_t(x.size() * 4), out.data(), int64_t(out.size() * 4), nullptr, 0, nullptr,
                                   &err);
                    if (step) kvc_step_abort(step, &err);
                    if (err.status != KVC_OK && err.status != KVC_E_HANDLE) wrong = true;
                    if (err.status == KVC_E_HANDLE) return;
                }
            });
        }
        std::this_thread::sleep_for(std::chrono::microseconds(300 * round));
        CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
        CHECK(kvc_destroy(cache, nullptr) == KVC_E_HANDLE);
        for (std::thread& thread : threads)
            thread.join();
        CHECK_FALSE(wrong);
    }
}

// Misuse from several threads: every call is answered with a status, calls on disjoint sequences do their work, and nothing is left behind.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

double seconds_of_test() {
    const char* text = std::getenv("KVC_MISUSE_SECONDS");
    return text ? std::atof(text) : 1.0;
}

uint64_t next_number(uint64_t& state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

bool is_answer(kvc_status status) { return status >= KVC_OK && status <= KVC_E_FORKED; }

}  // namespace

TEST_CASE("threads: random calls with live, stale and shared handles from eight threads are all answered") {
    SmallCache first, second;
    std::vector<std::atomic<int64_t>> shared(16);
    for (auto& seq : shared)
        seq = first.seq;
    std::atomic<bool> stop{false};
    std::atomic<int64_t> calls{0}, answered{0};
    const auto misuse = [&](uint64_t seed) {
        uint64_t state = seed;
        std::vector<Call> list = cache_calls();
        list.pop_back();  // not destroy: the caches are to outlive this
        while (!stop) {
            const Call& call = list[next_number(state) % list.size()];
            kvc_cache* cache = next_number(state) % 8 == 0 ? nullptr : next_number(state) % 4 == 0 ? second.cache : first.cache;
            auto& slot = shared[next_number(state) % shared.size()];
            if (next_number(state) % 4 == 0) slot = kvc_seq_create(first.cache, nullptr, nullptr);
            kvc_error error = empty_error();
            answered += is_answer(call.run(cache, slot, &error));
            ++calls;
        }
    };
    std::vector<std::thread> threads;
    for (uint64_t seed = 1; seed <= 8; ++seed)
        threads.emplace_back(misuse, seed);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds_of_test()));
    stop = true;
    for (std::thread& thread : threads)
        thread.join();
    CHECK(calls > 100);
    CHECK(answered == calls);
    MESSAGE(calls.load() << " calls");
}

TEST_CASE("threads: steps over different sequences of one cache run side by side with the results of one thread") {
    kvc_options options = small_options();
    options.arena_growth = 1, options.threads = 2;
    SmallCache shared(options);
    const auto run = [&](kvc_cache* cache, float shift, std::vector<float>* results) {
        const kvc_seq seq = kvc_seq_create(cache, nullptr, nullptr);
        const int64_t tokens = 3, kv = tokens * 2 * 32 * 4, q = tokens * 4 * 32 * 4;
        std::vector<float> k(static_cast<size_t>(kv / 4)), queries(static_cast<size_t>(q / 4), 0.5f), out(static_cast<size_t>(q / 4));
        for (int round = 0; round < 60; ++round) {
            for (size_t i = 0; i < k.size(); ++i)
                k[i] = shift + static_cast<float>((i * 7 + static_cast<size_t>(round)) % 11);
            kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, nullptr, nullptr);
            for (int64_t layer = 0; layer < 2; ++layer) {
                if (kvc_append(step, layer, k.data(), kv, k.data(), kv, nullptr) != KVC_OK) return;
                if (kvc_attend(step, layer, queries.data(), q, out.data(), q, nullptr, 0, nullptr, nullptr) != KVC_OK) return;
                results->insert(results->end(), out.begin(), out.end());
            }
            if (kvc_step_commit(step, nullptr, 0, nullptr) != KVC_OK) return;
        }
        kvc_seq_destroy(cache, seq, nullptr);
    };
    std::vector<std::vector<float>> together(4), alone(4);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 4; ++i)
        threads.emplace_back(run, shared.cache, static_cast<float>(i), &together[i]);
    for (std::thread& thread : threads)
        thread.join();
    for (size_t i = 0; i < 4; ++i)
        run(shared.cache, static_cast<float>(i), &alone[i]);
    CHECK(alone[0].size() == 60 * 2 * 3 * 4 * 32);
    CHECK(together == alone);
    CHECK(alone[0] != alone[1]);
}

TEST_CASE("threads: destroying a cache while others call it lets their calls finish and refuses later ones") {
    for (int round = 0; round < 20; ++round) {
        SmallCache small;
        std::atomic<bool> refused{false}, wrong{false};
        const auto caller = [&] {
            while (!refused) {
                kvc_seq_stats stats{};
                stats.struct_size = sizeof stats;
                const kvc_status status = kvc_seq_stats_get(small.cache, small.seq, &stats, nullptr);
                if (status == KVC_E_HANDLE) refused = true;
                if (status != KVC_E_HANDLE && (status != KVC_OK || stats.tokens != 5)) wrong = true;
            }
        };
        std::thread one(caller), two(caller);
        std::this_thread::sleep_for(std::chrono::milliseconds(round % 4));
        CHECK(kvc_destroy(small.cache, nullptr) == KVC_OK);
        one.join();
        two.join();
        CHECK_FALSE(wrong);
    }
}

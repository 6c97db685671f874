// The prefix index through kvc.h: what is refused, and calls from many threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "tests/capi/fixture.h"

using namespace capi_tests;

TEST_CASE("prefix: tokens, salts, options and results out of range are refused, named, and change nothing") {
    SmallCache small;
    kvc_error error = empty_error();
    const int64_t tokens[6] = {1, 2, 3, 4, 5, 6};
    const std::string salt(4097, 's');
    const auto publish = [&](const int64_t* t, int64_t n, const void* s, int64_t bytes, const kvc_prefix_options* o) {
        return kvc_prefix_publish(small.cache, small.seq, t, n, s, bytes, o, &error);
    };
    const auto expect = [&](kvc_status status, kvc_status wanted, const char* name) {
        CHECK(status == wanted);
        expect_message(error, name);
    };
    for (int64_t n : {int64_t{-1}, INT64_MIN, INT64_MAX, (int64_t{1} << 40) + 1})
        expect(publish(tokens, n, nullptr, 0, nullptr), KVC_E_ARGUMENT, "prefix_publish: n ");
    expect(publish(tokens, 0, nullptr, 0, nullptr), KVC_E_ARGUMENT, "n 0");
    expect(publish(nullptr, 5, nullptr, 0, nullptr), KVC_E_ARGUMENT, "tokens is NULL");
    expect(publish(tokens, 5, nullptr, 1, nullptr), KVC_E_ARGUMENT, "salt is NULL");
    for (int64_t bytes : {int64_t{-1}, int64_t{4097}, INT64_MAX})
        expect(publish(tokens, 5, salt.data(), bytes, nullptr), KVC_E_ARGUMENT, "salt_bytes");
    // Nothing is read of tokens that the sequence does not have.
    expect(publish(tokens, int64_t{1} << 40, nullptr, 0, nullptr), KVC_E_RANGE, "1099511627776");
    kvc_prefix_options options;
    kvc_prefix_options_init(&options, sizeof options);
    options.pinned = -1;
    expect(publish(tokens, 5, nullptr, 0, &options), KVC_E_ARGUMENT, "pinned");

    kvc_prefix_hit hit{};
    const auto lookup = [&](int64_t n, int64_t bytes, kvc_prefix_hit* out) {
        error = empty_error();
        CHECK(kvc_prefix_lookup(small.cache, tokens, n, salt.data(), bytes, nullptr, out, &error) == 0);
        return status_of(&error);
    };
    expect(lookup(6, 0, nullptr), KVC_E_ARGUMENT, "prefix_hit is NULL");
    expect(lookup(6, 0, &hit), KVC_E_ARGUMENT, "struct_size");
    hit.struct_size = sizeof hit;
    expect(lookup(-1, 0, &hit), KVC_E_ARGUMENT, "n -1");
    expect(lookup(6, 4097, &hit), KVC_E_ARGUMENT, "salt_bytes");
    int64_t removed = 7;
    expect(kvc_prefix_remove(small.cache, tokens, -1, nullptr, 0, &removed, &error), KVC_E_ARGUMENT, "n -1");
    expect(kvc_prefix_remove(small.cache, tokens, 1, nullptr, 0, nullptr, &error), KVC_E_ARGUMENT, "out is NULL");
    expect(kvc_prefix_stats_get(small.cache, nullptr, &error), KVC_E_ARGUMENT, "prefix_stats is NULL");
    CHECK(removed == 7);
    CHECK(hit.tokens == 0);

    kvc_prefix_stats stats{};
    stats.struct_size = sizeof stats;
    CHECK(kvc_prefix_stats_get(small.cache, &stats, &error) == KVC_OK);
    CHECK(stats.entries == 0);
    CHECK(stats.misses == 0);
    CHECK(publish(tokens, 5, salt.data(), 4096, nullptr) == KVC_OK);
    CHECK(kvc_prefix_lookup(small.cache, nullptr, 0, nullptr, 0, nullptr, &hit, &error) != 0);  // an empty prompt is a miss
    CHECK(kvc_prefix_lookup(small.cache, tokens, 6, salt.data(), 4096, nullptr, &hit, &error) != 0);
    CHECK(hit.tokens == 5);
    CHECK(kvc_prefix_remove(small.cache, nullptr, 0, salt.data(), 4096, &removed, &error) == KVC_OK);
    CHECK(removed == 1);
}

TEST_CASE("prefix: what lies below the exact floor is refused in the verb's own words, and so do fork and truncate") {
    SmallCache small;
    for (int i = 0; i < 5; i++) {  // small.k holds rows for 64 tokens
        kvc_step* const step = small.begin(60);
        REQUIRE(step != nullptr);
        small.append_all(step, 60);
        REQUIRE(kvc_step_commit(step, nullptr, 0, &small.error) == KVC_OK);
    }
    int64_t floor = 0;
    REQUIRE(kvc_seq_exact_floor(small.cache, small.seq, &floor, nullptr) == KVC_OK);
    REQUIRE(floor > 100);
    const std::vector<int64_t> tokens(305, 7);
    kvc_error error = empty_error();
    CHECK(kvc_prefix_publish(small.cache, small.seq, tokens.data(), floor - 1, nullptr, 0, nullptr, &error) == KVC_E_RANGE);
    CHECK(std::string(error.message) == "prefix_publish: " + std::to_string(floor - 1) + " tokens of sequence " +
                                            std::to_string(small.seq) + ", whose exact floor is " + std::to_string(floor) + " tokens");
    CHECK(kvc_prefix_publish(small.cache, small.seq, tokens.data(), floor, nullptr, 0, nullptr, &error) == KVC_OK);
    CHECK(kvc_seq_truncate(small.cache, small.seq, floor - 1, KVC_CUT_EXACT, &error) == KVC_E_RANGE);
    expect_message(error, "truncate: length " + std::to_string(floor - 1) + " is below the exact floor " + std::to_string(floor));
    CHECK(kvc_seq_fork(small.cache, small.seq, 306, KVC_CUT_EXACT, &error) == 0);
    expect_message(error, "fork: length 306 is out of range (0 .. 305)");
    CHECK(kvc_seq_fork(small.cache, small.seq, -1, KVC_CUT_EXACT, &error) == 0);
    expect_message(error, "fork: length -1 is negative");
}

TEST_CASE("prefix: sequences of another cache are no sources, and entries are no other cache's") {
    SmallCache first, second;
    kvc_error error = empty_error();
    const int64_t tokens[6] = {1, 2, 3, 4, 5, 6};
    CHECK(kvc_prefix_publish(first.cache, second.seq, tokens, 5, nullptr, 0, nullptr, &error) == KVC_E_HANDLE);
    CHECK(kvc_prefix_publish(first.cache, first.seq + 1, tokens, 5, nullptr, 0, nullptr, &error) == KVC_E_HANDLE);
    CHECK(kvc_prefix_publish(first.cache, first.seq, tokens, 5, nullptr, 0, nullptr, &error) == KVC_OK);
    kvc_prefix_hit hit{};
    hit.struct_size = sizeof hit;
    CHECK(kvc_prefix_lookup(second.cache, tokens, 6, nullptr, 0, nullptr, &hit, &error) != 0);
    CHECK(hit.tokens == 0);
    kvc_step* step = first.begin();
    CHECK(kvc_prefix_publish(first.cache, first.seq, tokens, 5, nullptr, 0, nullptr, &error) == KVC_E_BUSY);
    CHECK(kvc_prefix_lookup(first.cache, tokens, 6, nullptr, 0, nullptr, &hit, &error) != 0);  // beside an open step
    CHECK(hit.tokens == 5);
    CHECK(kvc_step_abort(step, &error) == KVC_OK);
}

TEST_CASE("prefix: threads that publish, look up, run steps and remove in a full arena get what was published or nothing") {
    kvc_options options = small_options();
    options.arena_tokens = options.arena_sequences = 0;
    options.arena_bytes = 12 * 65536;
    SmallCache small(options);
    constexpr int64_t row = 2 * 32, turns = 30;
    std::atomic<int64_t> hits{0}, wrong{0};
    const auto work = [&](int64_t thread) {
        kvc_error error = empty_error();
        std::vector<int64_t> tokens(200);
        std::vector<float> rows(static_cast<size_t>(200 * row));
        for (int64_t turn = 0; turn < turns; ++turn) {
            const int64_t text = (thread + turn) % 3, n = 150 + 7 * text;
            // Token i of text t is 10 i + t, and its keys and values are that number / 64.
            for (int64_t i = 0; i < n; ++i) {
                tokens[static_cast<size_t>(i)] = 10 * i + text;
                std::fill_n(&rows[static_cast<size_t>(i * row)], row, static_cast<float>(10 * i + text) / 64);
            }
            kvc_prefix_hit hit{};
            hit.struct_size = sizeof hit;
            const kvc_seq seq = kvc_prefix_lookup(small.cache, tokens.data(), n, nullptr, 0, nullptr, &hit, &error);
            if (!seq) continue;  // no room just then
            const int64_t count = n - hit.tokens, bytes = count * row * 4;
            hits += hit.tokens > 0;
            float first[32] = {0};
            if (hit.tokens > 0 && (kvc_seq_read(small.cache, seq, 1, 1, KVC_VALUES, 1, 1, first, sizeof first, &error) != KVC_OK ||
                                   std::abs(first[0] - static_cast<float>(10 + text) / 64) > 0.01f))
                ++wrong;
            kvc_step* step = kvc_step_begin(small.cache, &seq, &count, 1, nullptr, 0, nullptr, &error);
            for (int64_t layer = 0; step && layer < 2; ++layer) {
                const float* from = &rows[static_cast<size_t>(hit.tokens * row)];
                if (kvc_append(step, layer, from, bytes, from, bytes, &error) != KVC_OK) ++wrong;
            }
            if (step && kvc_step_commit(step, nullptr, 0, &error) != KVC_OK) ++wrong;
            const kvc_status published =
                step ? kvc_prefix_publish(small.cache, seq, tokens.data(), n, nullptr, 0, nullptr, &error) : KVC_E_NO_MEMORY;
            if (published != KVC_OK && published != KVC_E_NO_MEMORY) ++wrong;
            int64_t removed = 0;
            if (turn % 10 == 9) kvc_prefix_remove(small.cache, tokens.data(), 1, nullptr, 0, &removed, &error);
            kvc_prefix_stats stats{};
            stats.struct_size = sizeof stats;
            if (kvc_prefix_stats_get(small.cache, &stats, &error) != KVC_OK || stats.entries > 3) ++wrong;
            if (kvc_seq_destroy(small.cache, seq, &error) != KVC_OK) ++wrong;
        }
    };
    std::vector<std::thread> threads;
    for (int64_t thread = 0; thread < 4; ++thread)
        threads.emplace_back(work, thread);
    for (std::thread& thread : threads)
        thread.join();
    CHECK(wrong == 0);
    CHECK(hits > 10);
    CHECK(kvc_prefix_clear(small.cache, nullptr) == KVC_OK);
    CHECK(kvc_seq_destroy(small.cache, small.seq, nullptr) == KVC_OK);
    kvc_stats stats{};
    stats.struct_size = sizeof stats;
    CHECK(kvc_stats_get(small.cache, &stats, nullptr) == KVC_OK);
    CHECK(stats.record_bytes == 0);
}

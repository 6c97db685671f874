// Law: a stream of any length runs through one sequence in the same bytes, and counters beyond 2^32 count on.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <kvc.h>
#include <vector>

#include "doctest/doctest.h"

// KVC_STREAM_TOKENS: another number of tokens, rounded up to whole steps (make stream-long: a thousand million).
TEST_CASE("streaming: ten million tokens pass through one sequence, memory stays flat, positions cross 2^32") {
    constexpr int64_t step_tokens = 8192, dim = 16, first = (int64_t{1} << 32) - 5'000'000;
    const char* const asked = std::getenv("KVC_STREAM_TOKENS");
    const int64_t steps = ((asked && *asked ? std::atoll(asked) : 10'000'000) + step_tokens - 1) / step_tokens;
    REQUIRE(steps > 2);
    const auto start = std::chrono::steady_clock::now();
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1, options.kv_heads = 1, options.k_dim = dim, options.arena_growth = 1;
    std::snprintf(options.codec, sizeof options.codec, "int4");
    std::snprintf(options.policy, sizeof options.policy, "streaming:4+512");
    kvc_error error = {sizeof error, 0, ""};
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    kvc_seq_options sequence;
    kvc_seq_options_init(&sequence, sizeof sequence);
    sequence.first_position = first;
    const kvc_seq seq = kvc_seq_create(cache, &sequence, &error);
    std::vector<float> rows(step_tokens * dim), q(64 * dim, 0.5f), out(64 * dim);
    for (size_t i = 0; i < rows.size(); ++i)
        rows[i] = static_cast<float>(i * 7919 % 2001) / 500 - 2;
    int64_t length = 0;
    const auto step = [&](int64_t tokens, bool attend) {
        kvc_step* open = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, nullptr, &error);
        REQUIRE_MESSAGE(open != nullptr, error.message);
        const int64_t bytes = tokens * dim * 4;
        REQUIRE(kvc_append(open, 0, rows.data(), bytes, rows.data(), bytes, &error) == KVC_OK);
        if (attend) REQUIRE(kvc_attend(open, 0, q.data(), bytes, out.data(), bytes, nullptr, 0, nullptr, &error) == KVC_OK);
        REQUIRE(kvc_step_commit(open, nullptr, 0, &error) == KVC_OK);
        length += tokens;
        // What the queries see is bounded, so that they are averages of rows.
        for (const float x : out)
            if (!(x >= -2.1f && x <= 2.1f)) FAIL_CHECK("an output of " << x << " at " << length);
    };
    const auto held = [&] {
        kvc_stats stats = {};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_stats_get(cache, &stats, &error) == KVC_OK);
        return std::vector<int64_t>{stats.arena_bytes, stats.record_bytes, stats.table_bytes};
    };
    step(step_tokens, false);
    step(step_tokens, false);
    const std::vector<int64_t> early = held();
    for (int64_t i = 2; i < steps; ++i) {
        step(step_tokens, false);
        if (i % 100 != 0) continue;
        REQUIRE(held() == early);
        step(64, true);
    }
    CHECK(held() == early);
    step(64, true);
    int64_t live = 0, next = 0;
    REQUIRE(kvc_seq_length(cache, seq, &next, &error) == KVC_OK);
    CHECK(next == first + length);
    REQUIRE(kvc_seq_live(cache, seq, 0, 0, &live, &error) == KVC_OK);
    CHECK(live == 516 + (length - 516) % 64);
    std::vector<int64_t> positions(static_cast<size_t>(live));
    REQUIRE(kvc_seq_positions(cache, seq, 0, 0, positions.data(), live, nullptr, &error) == KVC_OK);
    for (int64_t i = 0; i < live; ++i)
        CHECK(positions[static_cast<size_t>(i)] == (i < 4 ? first + i : first + length - live + i));
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start).count();
    if (asked)
        std::printf("stream: %lld tokens | %lld s | %lld bytes of records, %lld of tables\n", static_cast<long long>(length),
                    static_cast<long long>(seconds), static_cast<long long>(early[1]), static_cast<long long>(early[2]));
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

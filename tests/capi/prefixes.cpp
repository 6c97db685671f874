// The prefix index through kvc.h: what is refused, and calls from many threads.
#include <atomic>
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

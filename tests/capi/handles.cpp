// Handles are values: NULL, stale, twice destroyed, foreign and wrong-kind ones are KVC_E_HANDLE, whatever the function.
#include <cstdint>
#include <cstring>
#include <unordered_set>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

uint64_t value_of(const void* handle) {
    uint64_t value = 0;
    std::memcpy(&value, &handle, sizeof value);
    return value;
}

template <typename T>
T* as_handle(uint64_t value) {
    T* handle = nullptr;
    std::memcpy(&handle, &value, sizeof value);
    return handle;
}

// Numbers that are no live cache: nothing, small ones, an address, other tags, neighbours in slot and generation.
std::vector<uint64_t> wrong_values(uint64_t live, const void* address) {
    return {0,
            1,
            8,
            UINT64_MAX,
            value_of(address),
            live + 1,
            live - 1,
            live ^ (uint64_t{1} << 32),
            live ^ (uint64_t{1} << 48),
            live ^ (uint64_t{1} << 63)};
}

}  // namespace

TEST_CASE("handles: every function refuses a cache that is none") {
    SmallCache small;
    const int64_t count = 1;
    kvc_step* step = small.begin(count);
    std::vector<uint64_t> wrong = wrong_values(value_of(small.cache), &small);
    wrong.push_back(value_of(step));  // the wrong kind
    for (const Call& call : cache_calls())
        for (uint64_t value : wrong) {
            CAPTURE(call.name);
            CAPTURE(value);
            kvc_error error = empty_error();
            CHECK(call.run(as_handle<kvc_cache>(value), small.seq, &error) == KVC_E_HANDLE);
            CHECK(error.status == KVC_E_HANDLE);
            expect_message(error, call.name);
        }
    CHECK(kvc_step_abort(step, nullptr) == KVC_OK);
}

TEST_CASE("handles: every function refuses a destroyed cache, also after its slot was used again") {
    kvc_cache* stale = nullptr;
    {
        SmallCache small;
        stale = small.cache;
        CHECK(kvc_destroy(stale, nullptr) == KVC_OK);
        for (const Call& call : cache_calls()) {
            CAPTURE(call.name);
            kvc_error error = empty_error();
            CHECK(call.run(stale, small.seq, &error) == KVC_E_HANDLE);
        }
    }
    SmallCache next;
    CHECK(next.cache != stale);
    for (const Call& call : cache_calls()) {
        CAPTURE(call.name);
        kvc_error error = empty_error();
        CHECK(call.run(stale, next.seq, &error) == KVC_E_HANDLE);
    }
    int64_t length = 0;
    CHECK(kvc_seq_length(next.cache, next.seq, &length, nullptr) == KVC_OK);
}

TEST_CASE("handles: every function refuses a sequence that is none, destroyed, or its slot's earlier tenant") {
    SmallCache small;
    const kvc_seq gone = kvc_seq_create(small.cache, nullptr, nullptr);
    REQUIRE(kvc_seq_destroy(small.cache, gone, nullptr) == KVC_OK);
    const kvc_seq tenant = kvc_seq_create(small.cache, nullptr, nullptr);
    REQUIRE(tenant != 0);
    for (const Call& call : cache_calls()) {
        if (!call.takes_seq) continue;
        for (kvc_seq wrong : {kvc_seq{0}, kvc_seq{-1}, kvc_seq{1}, INT64_MAX, INT64_MIN, gone, small.seq + 1000}) {
            CAPTURE(call.name);
            CAPTURE(wrong);
            kvc_error error = empty_error();
            CHECK(call.run(small.cache, wrong, &error) == KVC_E_HANDLE);
        }
    }
    int64_t length = -1;
    CHECK(kvc_seq_length(small.cache, small.seq, &length, nullptr) == KVC_OK);
    CHECK(length == 5);
}

TEST_CASE("handles: every function refuses a sequence of another cache, of a destroyed one, and ids that are one bit off") {
    SmallCache small, other;
    kvc_seq orphan = 0;
    {
        SmallCache gone;
        orphan = gone.seq;
    }
    std::vector<kvc_seq> wrong = {other.seq, orphan};
    for (int bit = 0; bit < 64; ++bit)
        wrong.push_back(static_cast<kvc_seq>(static_cast<uint64_t>(small.seq) ^ uint64_t{1} << bit));
    for (const Call& call : cache_calls()) {
        if (!call.takes_seq) continue;
        for (const kvc_seq seq : wrong) {
            CAPTURE(call.name);
            CAPTURE(seq);
            kvc_error error = empty_error();
            CHECK(call.run(small.cache, seq, &error) == KVC_E_HANDLE);
            expect_message(error, std::to_string(seq));
        }
    }
    // In a batch as well; and those that were valid are free afterwards.
    const int64_t counts[] = {1, 1};
    for (const kvc_seq seq : wrong) {
        const kvc_seq batch[] = {small.seq, seq};
        kvc_error error = empty_error();
        CHECK(kvc_step_begin(small.cache, batch, counts, 2, nullptr, 0, nullptr, &error) == nullptr);
        CHECK(error.status == KVC_E_HANDLE);
    }
    for (SmallCache* cache : {&small, &other}) {
        kvc_stats stats{};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_stats_get(cache->cache, &stats, nullptr) == KVC_OK);
        CHECK(stats.sequences == 1);
        CHECK(stats.open_steps == 0);
        int64_t length = 0;
        CHECK(kvc_seq_length(cache->cache, cache->seq, &length, nullptr) == KVC_OK);
        CHECK(length == 5);
        kvc_step* step = cache->begin();
        cache->append_all(step, 1);
        CHECK(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
    }
}

TEST_CASE("handles: steps that are none, ended, of the wrong kind, or of a destroyed cache") {
    SmallCache small;
    kvc_step* committed = small.begin();
    small.append_all(committed, 1);
    REQUIRE(kvc_step_commit(committed, nullptr, 0, nullptr) == KVC_OK);
    kvc_step* aborted = small.begin();
    REQUIRE(kvc_step_abort(aborted, nullptr) == KVC_OK);
    kvc_step* orphan = nullptr;
    {
        SmallCache other;
        orphan = other.begin();
    }
    for (const StepCall& call : step_calls())
        for (uint64_t wrong : {uint64_t{0}, uint64_t{16}, value_of(&small), value_of(small.cache), value_of(committed),
                               value_of(aborted), value_of(orphan)}) {
            CAPTURE(call.name);
            CAPTURE(wrong);
            kvc_error error = empty_error();
            CHECK(call.run(as_handle<kvc_step>(wrong), small, &error) == KVC_E_HANDLE);
            expect_message(error, call.name);
        }
}

TEST_CASE("handles: their values are no addresses that a pointer could have, in any language") {
    SmallCache small;
    kvc_step* step = small.begin();
    for (uint64_t value : {value_of(small.cache), value_of(step)}) {
        CHECK((value >> 63) == 0);           // positive as int64_t
        CHECK(((value >> 56) & 0x7f) != 0);  // not canonical on any 64-bit machine
    }
    CHECK(small.seq > 0);
}

TEST_CASE("handles: a hundred thousand sequences and steps and a thousand caches, each ended twice, never meet an earlier one") {
    SmallCache small;
    std::unordered_set<uint64_t> seen;
    for (int i = 0; i < 100000; ++i) {
        const kvc_seq seq = kvc_seq_create(small.cache, nullptr, nullptr);
        REQUIRE(seq > 0);
        REQUIRE(seen.insert(uint64_t(seq)).second);
        REQUIRE(kvc_seq_destroy(small.cache, seq, nullptr) == KVC_OK);
        REQUIRE(kvc_seq_destroy(small.cache, seq, nullptr) == KVC_E_HANDLE);
    }
    seen.clear();
    for (int i = 0; i < 100000; ++i) {
        kvc_step* step = small.begin();
        REQUIRE(seen.insert(value_of(step)).second);
        REQUIRE(kvc_step_abort(step, nullptr) == KVC_OK);
        REQUIRE(kvc_step_abort(step, nullptr) == KVC_E_HANDLE);
    }
    seen.clear();
    for (int i = 0; i < 1000; ++i) {
        const kvc_options options = small_options();
        kvc_cache* cache = kvc_create(&options, nullptr, 0, nullptr);
        REQUIRE(cache);
        REQUIRE(seen.insert(value_of(cache)).second);
        REQUIRE(kvc_destroy(cache, nullptr) == KVC_OK);
        REQUIRE(kvc_destroy(cache, nullptr) == KVC_E_HANDLE);
    }
}

TEST_CASE("errors: the record may be missing, and a call that succeeds leaves it alone") {
    SmallCache small;
    CHECK(kvc_seq_truncate(small.cache, small.seq, 77, KVC_CUT_EXACT, nullptr) == KVC_E_RANGE);
    kvc_error error = empty_error();
    CHECK(kvc_seq_truncate(small.cache, small.seq, 77, KVC_CUT_EXACT, &error) == KVC_E_RANGE);
    CHECK(error.status == KVC_E_RANGE);
    const std::string message = error.message;
    int64_t length = 0;
    CHECK(kvc_seq_length(small.cache, small.seq, &length, &error) == KVC_OK);
    CHECK(error.status == KVC_E_RANGE);
    CHECK(error.message == message);
    kvc_error unset{};  // no struct_size: nothing may be written
    CHECK(kvc_seq_truncate(small.cache, small.seq, 77, KVC_CUT_EXACT, &unset) == KVC_E_RANGE);
    CHECK(unset.message[0] == 0);
}

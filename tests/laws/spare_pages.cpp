// Spare 16-bit pages and eviction: what was evicted stays evicted, whichever form of a page a later cut makes visible.
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <set>
#include <vector>

#include "kvc.h"

#include "tests/laws/session.h"

namespace {

constexpr int64_t dim = 64;

std::vector<int64_t> positions_of(kvc_cache* cache, kvc_seq seq) {
    int64_t live = 0;
    REQUIRE(kvc_seq_live(cache, seq, 0, 0, &live, nullptr) == KVC_OK);
    std::vector<int64_t> positions(static_cast<size_t>(live));
    REQUIRE(kvc_seq_positions(cache, seq, 0, 0, positions.data(), live, nullptr, nullptr) == KVC_OK);
    return positions;
}

}  // namespace

TEST_CASE("spare pages: an inexact cut brings no evicted token back, and none twice") {
    std::mt19937 random(3);
    for (int64_t spare_pages : {1, 3}) {
        for (int64_t budget : {400, 330, 270}) {
            kvc_options options;
            kvc_options_init(&options, sizeof options);
            options.layers = 1;
            options.kv_heads = 1;
            options.k_dim = dim;
            options.arena_bytes = 4 << 20;
            options.spare_pages = int32_t(spare_pages);
            std::strcpy(options.codec, "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=64,sinks=4");
            kvc_cache* cache = kvc_create(&options, nullptr, 0, nullptr);
            REQUIRE(cache != nullptr);
            const kvc_seq seq = kvc_seq_create(cache, nullptr, nullptr);
            const int64_t tokens = 1000;
            std::vector<float> numbers(size_t(tokens * dim)), scores(static_cast<size_t>(tokens));
            for (float& x : numbers)
                x = float(random() % 1000) / 500 - 1;
            for (float& x : scores)
                x = float(random() % 1000);
            kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, nullptr, nullptr);
            const int64_t bytes = tokens * dim * 4;
            REQUIRE(kvc_append(step, 0, numbers.data(), bytes, numbers.data(), bytes, nullptr) == KVC_OK);
            REQUIRE(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
            kvc_evict_options evict;
            kvc_evict_options_init(&evict, sizeof evict);
            evict.budget = budget;
            REQUIRE(kvc_evict(cache, seq, scores.data(), tokens, &evict, nullptr, nullptr) == KVC_OK);
            const std::vector<int64_t> before = positions_of(cache, seq);
            CHECK(int64_t(before.size()) == budget);
            for (int64_t length : {999, 960, 935, 900, 870, 820, 700, 500, 100}) {
                const kvc_seq cut = kvc_seq_fork(cache, seq, length, KVC_CUT_INEXACT, nullptr);
                REQUIRE(cut != 0);
                std::vector<int64_t> expected;
                for (int64_t position : before) {
                    if (position < length) expected.push_back(position);
                }
                CHECK(positions_of(cache, cut) == expected);
                REQUIRE(kvc_seq_destroy(cache, cut, nullptr) == KVC_OK);
            }
            kvc_destroy(cache, nullptr);
        }
    }
}

TEST_CASE(
    "spare pages: below a sliding window they are nobody's tokens, so that an eviction after an exact cut takes what it takes "
    "without") {
    for (const std::string sliding : {"70", "128", "200"})
        for (const std::string spare : {"1", "2"}) {
            CAPTURE(sliding);
            CAPTURE(spare);
            const std::string create = " kv_heads=2 q_heads=4 k_dim=32 sliding_window=" + sliding + " spare_pages=" + spare +
                                       " codec=" + kvc_laws::short_window("int4", 20, 4);
            for (int64_t length : {300, 323, 324, 325, 390}) {
                CAPTURE(length);
                kvc_laws::Session fresh(create), cut(create);
                for (kvc_laws::Session* session : {&fresh, &cut})
                    session->ok("seq a data=3");
                fresh.feed("a", length, 50);
                cut.feed("a", length + 40, 50);
                REQUIRE(cut.number("floor a") <= length);
                cut.ok("truncate a length=" + std::to_string(length));
                CHECK(fresh.stored("a") == cut.stored("a"));
                CHECK(fresh.number("live a") <= 4 + std::stoi(sliding) - 1 + 64);
                for (kvc_laws::Session* session : {&fresh, &cut})
                    session->ok("evict a scores=7 budget=110");
                CHECK(fresh.number("live a") <= 110);
                CHECK(fresh.stored("a") == cut.stored("a"));
                CHECK(fresh.feed("a", 130, 13) == cut.feed("a", 130, 13));
            }
        }
}

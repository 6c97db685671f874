// When pages are repacked, and which.
#include "core/cache/repack.h"

#include <algorithm>
#include <bit>
#include <doctest/doctest.h>
#include <random>

using namespace kvc;

namespace {

LayerFormat format_of(const char* codec) {
    const auto parsed = parse_codec(codec);
    REQUIRE(parsed.ok());
    const auto format = make_format(*parsed, 32, 32);
    REQUIRE(format.ok());
    return *format;
}

uint64_t first_tokens(int n) { return n == 64 ? all_live : (uint64_t{1} << n) - 1; }

}  // namespace

TEST_CASE("repack: pages of tokens that move bit for bit are kept fuller than those that are coded anew") {
    for (const char* codec : {"fp16", "bf16", "k=int8.tok,v=int4.tok.rot.ls,window=0,sinks=4"}) {
        CAPTURE(codec);
        const LayerFormat format = format_of(codec);
        CHECK(record_bound(format, 0) == 0);
        CHECK(record_bound(format, 1) == 1);
        CHECK(record_bound(format, 56) == 1);
        CHECK(record_bound(format, 57) == 2);
        CHECK(record_bound(format, 512) == 9);
    }
    for (const char* codec : {"int4", "k=int8.tok,v=int4.ch.g32", "kivi2"}) {
        CAPTURE(codec);
        const LayerFormat format = format_of(codec);
        CHECK(record_bound(format, 0) == 0);
        CHECK(record_bound(format, 32) == 1);
        CHECK(record_bound(format, 33) == 2);
        CHECK(record_bound(format, 512) == 16);
    }
    // Never fewer records than the tokens fill.
    for (int64_t live = 0; live < 1000; live++)
        CHECK(record_bound(format_of("fp16"), live) >= (live + 63) / 64);
}

TEST_CASE("repack: of tokens that move bit for bit the emptiest pages are gathered, and only as many as the bound asks for") {
    const std::vector<PageEntry> coded = {{1, 0, all_live}, {2, 0, all_live}, {3, 0, all_live}, {4, 0, all_live}, {0, 0, 0}};
    const std::vector<uint64_t> half = {first_tokens(40), first_tokens(32), first_tokens(30), first_tokens(64),
                                        0};  // 166 tokens in 4 pages
    CHECK(plan_repack(format_of("int4"), coded, half).sources.empty());
    // 3 pages are allowed: the two emptiest become one.
    const RepackPlan plan = plan_repack(format_of("fp16"), coded, half);
    CHECK(plan.sources == std::vector<size_t>{1, 2});
    CHECK(plan.ends == std::vector<size_t>{2});
    CHECK(plan.tokens == 62);
    CHECK(plan_repack(format_of("fp16"), coded, std::vector<uint64_t>(5, 0)).sources.empty());
}

TEST_CASE("repack: tokens that are coded anew join their neighbours, those with the fewest tokens first") {
    const std::vector<PageEntry> coded(6, {1, 0, all_live});
    const auto plan_of = [&](std::vector<int> counts) {
        std::vector<uint64_t> live;
        for (const int n : counts)
            live.push_back(first_tokens(n));
        return plan_repack(format_of("int4"), coded, live);
    };
    // 64 tokens in 4 pages, two are allowed: the last two join, then what is left of fewest tokens. Dead pages part no neighbours.
    const RepackPlan two = plan_of({16, 16, 0, 17, 0, 15});
    CHECK(two.sources == std::vector<size_t>{0, 1, 3, 5});
    CHECK(two.ends == std::vector<size_t>{2, 4});
    CHECK(two.tokens == 64);
    // The emptiest pages, 0 and 5, are of different ages: each joins its neighbour.
    const RepackPlan apart = plan_of({1, 30, 30, 30, 30, 2});
    CHECK(apart.sources == std::vector<size_t>{0, 1, 4, 5});
    CHECK(apart.ends == std::vector<size_t>{2, 4});
    CHECK(plan_of({8, 8, 8, 8, 8, 8}).ends.size() == 2);
    CHECK(plan_of({0, 0, 0, 0, 0, 0}).sources.empty());
}

TEST_CASE("repack: whatever tokens are left, the bound holds afterwards and no group is more than a page") {
    std::mt19937 random(5);
    for (int turn = 0; turn < 2000; turn++) {
        const size_t pages = 1 + random() % 40;
        const int most = 1 + int(random() % 64);
        std::vector<PageEntry> coded(pages, {1, 0, all_live});
        std::vector<uint64_t> live;
        int64_t tokens = 0, records = 0;
        for (size_t e = 0; e < pages; e++) {
            live.push_back(first_tokens(int(random() % uint32_t(most + 1))));
            tokens += std::popcount(live.back());
            records += live.back() != 0;
        }
        for (const char* codec : {"int4", "fp16"}) {
            const LayerFormat format = format_of(codec);
            const RepackPlan plan = plan_repack(format, coded, live);
            REQUIRE(std::is_sorted(plan.sources.begin(), plan.sources.end()));
            int64_t made = 0, moved = 0;
            size_t begin = 0;
            for (const size_t end : plan.ends) {
                int64_t group = 0;
                for (size_t i = begin; i < end; i++)
                    group += std::popcount(live[plan.sources[i]]);
                if (codec[0] == 'i') REQUIRE(group <= 64);
                made += (group + 63) / 64, moved += group, begin = end;
            }
            CHECK(begin == plan.sources.size());
            CHECK(moved == plan.tokens);
            CHECK(records - int64_t(plan.sources.size()) + made <= record_bound(format, tokens));
        }
    }
}

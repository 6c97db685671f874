// When pages are repacked, and which.
#include "core/cache/repack.h"

#include <bit>
#include <doctest/doctest.h>

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

TEST_CASE("repack: the emptiest pages are gathered, and only as many as the bound asks for") {
    const std::vector<PageEntry> coded = {{1, 0, all_live}, {2, 0, all_live}, {3, 0, all_live}, {4, 0, all_live}, {0, 0, 0}};
    const std::vector<uint64_t> half = {first_tokens(40), first_tokens(32), first_tokens(30), first_tokens(64),
                                        0};  // 166 tokens in 4 pages
    CHECK(plan_repack(format_of("int4"), coded, half).sources.empty());
    // 3 pages are allowed: the two emptiest become one.
    const RepackPlan plan = plan_repack(format_of("fp16"), coded, half);
    CHECK(plan.sources == std::vector<size_t>{1, 2});
    CHECK(plan.tokens == 62);
    // 64 tokens in 4 pages: two are allowed where they are coded anew.
    const std::vector<uint64_t> sparse = {first_tokens(16), first_tokens(16), first_tokens(17), first_tokens(15), 0};
    CHECK(plan_repack(format_of("int4"), coded, sparse).sources == std::vector<size_t>{0, 1, 3});
    CHECK(plan_repack(format_of("int4"), coded, std::vector<uint64_t>(5, 0)).sources.empty());
}

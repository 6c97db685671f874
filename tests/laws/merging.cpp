// Laws of merging: what kept tokens become, what they weigh, what nobody else notices.
#include <algorithm>

#include "tests/laws/merge_session.h"
#include "tests/reference/quantizers.h"

using namespace kvc_laws;
using kvc_reference::MergedHead;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";

// 200 tokens in sinks (3), coded pages and a window of 10; some of the coded ones join others: within a page, across pages, into the
// window, into a sink, several into one; one is dropped.
std::vector<int32_t> some_clusters(int64_t length, int64_t heads) {
    std::vector<int32_t> clusters = unmerged(length, heads);
    for (int64_t h = 0; h < heads; ++h) {
        int32_t* const row = &clusters[static_cast<size_t>(h * length)];
        row[10 + h] = 20, row[11 + h] = 20, row[50] = 20;
        row[60] = 100, row[101] = 100;
        row[70] = 2;
        row[80] = static_cast<int32_t>(length - 1);
        row[90] = -1;
    }
    return clusters;
}

// The place of each token's cluster among the live ones.
std::vector<int64_t> routes(const std::vector<int32_t>& clusters, int64_t length, int64_t row, const MergedHead& before) {
    std::vector<int64_t> into;
    for (const int64_t position : before.positions) {
        const int32_t to = clusters[static_cast<size_t>(row * length + position)];
        const auto place = std::find(before.positions.begin(), before.positions.end(), to);
        into.push_back(to < 0 ? kvc_reference::joins_nothing : place - before.positions.begin());
    }
    return into;
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
    double worst = 0;
    for (size_t d = 0; d < a.size(); ++d)
        worst = std::max(worst, std::fabs(a[d] - b[d]));
    return worst;
}

// What one more coding of rows like those of `head` may move a number by: the largest that the first one moved any of the original rows by.
double coding_error(const std::string& codec, const std::string& part, const MergedHead& coded, bool keys) {
    Session exact(shape + short_window("fp16", 10, 3));
    exact.ok("seq a data=3");
    exact.feed("a", 200, 64);
    const MergedHead original = head_of(exact, "a");
    double worst = 0;
    for (size_t i = 0; i < original.positions.size(); ++i)
        worst = std::max(worst, difference(keys ? original.k[i] : original.v[i], keys ? coded.k[i] : coded.v[i]));
    CAPTURE(codec);
    CAPTURE(part);
    REQUIRE(worst < 3);
    return worst;
}

}  // namespace

TEST_CASE("merge: kept tokens become what the definitions say, in every codec; all others keep every bit") {
    for (const std::string& preset : presets())
        for (const bool values_only : {false, true}) {
            CAPTURE(preset);
            CAPTURE(values_only);
            Session session(shape + short_window(preset, 10, 3));
            session.ok("seq a data=3");
            session.feed("a", 200, 64);
            const bool coded = preset != "fp16" && preset != "bf16";
            const double rounding = preset == "bf16" ? 0x1p-6 : 0x1p-9;
            const double k_error = rounding + (coded ? 2 * coding_error(preset, "keys", head_of(session, "a"), true) : 0);
            const double v_error = rounding + (coded ? 2 * coding_error(preset, "values", head_of(session, "a"), false) : 0);
            const std::vector<int32_t> clusters = some_clusters(200, 4);
            std::vector<MergedHead> before;
            for (int row = 0; row < 4; ++row)
                before.push_back(head_of(session, "a", row / 2, row % 2));
            const Merge merged = merge(session, "a", clusters, values_only);
            REQUIRE_MESSAGE(merged.status == KVC_OK, merged.message);
            CHECK(merged.report.tokens_merged == 4 * 7);
            CHECK(merged.report.tokens_evicted == 4 * 8);
            for (int row = 0; row < 4; ++row) {
                const std::vector<int64_t> into = routes(clusters, 200, row, before[static_cast<size_t>(row)]);
                const MergedHead expected = kvc_reference::merged(before[static_cast<size_t>(row)], into, !values_only);
                const MergedHead after = head_of(session, "a", row / 2, row % 2);
                REQUIRE(after.positions == expected.positions);
                CHECK(after.counts == expected.counts);
                CHECK(sum_of(after.counts) == 199);
                for (size_t i = 0; i < after.positions.size(); ++i) {
                    CAPTURE(after.positions[i]);
                    const bool target = after.counts[i] > 1, channel_page = !values_only && coded;
                    CHECK(difference(after.v[i], expected.v[i]) <=
                          (target || preset.starts_with("kivi") || preset == "int8" ? v_error : 0));
                    CHECK(difference(after.k[i], expected.k[i]) <= (channel_page || (target && !values_only) ? k_error : 0));
                }
            }
        }
}

TEST_CASE("merge: attention weighs tokens by what they stand for: every codec, target, GQA ratio and class against the formula") {
    for (const std::string& preset : presets())
        for (const std::string& target : targets())
            for (const int group : {1, 3, 4})
                for (const bool prompt : {false, true}) {
                    CAPTURE(preset);
                    CAPTURE(target);
                    CAPTURE(group);
                    CAPTURE(prompt);
                    Session session(
                        " kv_heads=2 q_heads=" + std::to_string(2 * group) + " k_dim=64 codec=" + short_window(preset, 10, 3),
                        {target, 0});
                    session.ok("seq a data=3 prompt_length=" + std::to_string(prompt ? 1000 : 0));
                    session.feed("a", 330, 110);
                    CHECK(attention_error(session, "a", 2, group, 64, true, 5) <= 1e-3);
                    const std::vector<int32_t> clusters = some_clusters(330, 2);
                    REQUIRE(merge(session, "a", clusters).status == KVC_OK);
                    CHECK(attention_error(session, "a", 2, group, 64, true, 6) <= 1e-3);
                    // Until pages are repacked, and once more.
                    std::vector<int32_t> heavy = unmerged(330, 2);
                    for (size_t row = 0; row < 2; ++row)
                        for (size_t i = 3; i < 250; ++i)
                            heavy[row * 330 + i] = static_cast<int32_t>(i + (8 - i % 5) % 5);
                    REQUIRE(merge(session, "a", heavy).status == KVC_OK);
                    CHECK(sum_of(counts_of(session, "a")) == 329);
                    CHECK(attention_error(session, "a", 2, group, 64, true, 7) <= 1e-3);
                    session.feed("a", 100, 50);
                    CHECK(attention_error(session, "a", 2, group, 64, true, 8) <= 1e-3);
                }
}

TEST_CASE("merge: without the bias a merged token weighs as one; counts are kept all the same") {
    for (const std::string& target : targets()) {
        Session session(" kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window("int4", 10, 3), {target, 0});
        session.ok("seq a data=3");
        session.feed("a", 330, 110);
        REQUIRE(merge(session, "a", some_clusters(330, 2), false, true).status == KVC_OK);
        CHECK(sum_of(counts_of(session, "a")) == 329);
        CHECK(attention_error(session, "a", 2, 2, 64, false, 6) <= 1e-3);
        CHECK(attention_error(session, "a", 2, 2, 64, true, 6) > 1e-3);
    }
}

TEST_CASE("merge: identical tokens that become one leave attention as it was") {
    for (const std::string& target : targets())
        for (const std::string codec : {"fp16", "bf16"}) {
            CAPTURE(target);
            Session session(" kv_heads=1 k_dim=64 codec=" + codec, {target, 0});
            session.ok("seq a data=3");
            for (int i = 0; i < 10; ++i) {  // ten times the same token, then twenty others
                const std::string step = "s" + std::to_string(i);
                session.ok("begin " + step + " a:1"), session.ok("append " + step + " seed=1 kind=constant"),
                    session.ok("commit " + step);
            }
            session.feed("a", 20, 20);
            const std::vector<float> q = queries(64, 9);
            const Attended before = attend_all(session, "a", q, 1, 64);
            std::vector<int32_t> clusters = unmerged(30, 1);
            std::fill(clusters.begin(), clusters.begin() + 9, 9);
            REQUIRE(merge(session, "a", clusters).status == KVC_OK);
            CHECK(counts_of(session, "a").front() == 10);
            const Attended after = attend_all(session, "a", q, 1, 64);
            CHECK(std::fabs(after.lse[0] - before.lse[0]) <= 1e-5f);
            // Weights add up to 1: what products round moves an output by no more than that much of the largest value.
            float largest = 0;
            for (const float v : session.ok("read a part=values").values)
                largest = std::max(largest, std::fabs(v));
            const double bound = 2e-5 + 2 * kvc_scripts::product_of_scripts() * double(largest);
            for (size_t d = 0; d < 64; ++d)
                CHECK(std::fabs(after.out[d] - before.out[d]) <= bound);
        }
}

TEST_CASE("merge: a fork's siblings keep every bit; pages that they share are copied, and go back") {
    for (const std::string& preset : {std::string("int4"), std::string("fp16"), std::string("kivi2")}) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, 10, 3));
        session.ok("seq a data=3");
        session.feed("a", 200, 64);
        session.ok("fork b a length=200");
        const Bytes before = session.stored("b");
        REQUIRE(merge(session, "a", some_clusters(200, 4)).status == KVC_OK);
        CHECK(session.stored("b") == before);
        CHECK(sum_of(counts_of(session, "b")) == 200);
        const Bytes a = session.stored("a");
        session.ok("fork c a length=200");
        CHECK(session.stored("c") == a);
        CHECK(counts_of(session, "c") == counts_of(session, "a"));
        session.ok("destroy b");
        CHECK(session.stored("a") == a);
        // Private pages are written in place: no record more.
        session.ok("destroy c");
        const int64_t records = session.stats()[2];
        std::vector<int32_t> more = unmerged(200, 4);
        for (size_t row = 0; row < 4; ++row)
            more[row * 200 + 30] = 40;
        REQUIRE(merge(session, "a", more).status == KVC_OK);
        CHECK(session.stats()[2] == records);
        session.ok("destroy a");
        CHECK(session.stats()[2] == 0);
    }
}

TEST_CASE("merge: what is folded into one page codes it once") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 200, 64);
    std::vector<int32_t> clusters = unmerged(200, 1);
    for (const size_t i : {10, 12, 14, 16})
        clusters[i] = static_cast<int32_t>(i + 1);
    kvc_stats before{}, after{};
    before.struct_size = after.struct_size = sizeof before;
    kvc_stats_get(session.replay.cache(), &before, nullptr);
    kvc_merge_options options;
    kvc_merge_options_init(&options, sizeof options);
    options.layer_end = 1, options.head_end = 1;
    REQUIRE(kvc_merge(session.replay.cache(), session.replay.handle_of("a"), clusters.data(), 200, &options, nullptr, nullptr) ==
            KVC_OK);
    kvc_stats_get(session.replay.cache(), &after, nullptr);
    CHECK(after.tokens_merged - before.tokens_merged == 4);
    CHECK(after.tokens_requantized - before.tokens_requantized == 60 + 4);  // the page's keys, and four values
    CHECK(after.pages_quantized == before.pages_quantized);
    CHECK(after.table_bytes > before.table_bytes);
    CHECK(sum_of(counts_of(session, "a", 0, 1)) == 200);
}

TEST_CASE("merge: the exact floor becomes the length; a cut below it forgets counts above it") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 200, 64);
    REQUIRE(merge(session, "a", some_clusters(200, 4)).status == KVC_OK);
    CHECK(session.number("floor a") == 200);
    CHECK(session.status("truncate a length=199") == "range");
    session.ok("truncate a length=60 cut=inexact");
    CHECK(sum_of(counts_of(session, "a")) == static_cast<int64_t>(positions_of(session, "a").size()) + 3 + 1);
    session.feed("a", 200, 64);
    CHECK(counts_of(session, "a").back() == 1);
}

TEST_CASE("merge: what it does not take is refused by name, and nothing changes") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 200, 64);
    session.ok("evict a budget=190");  // tokens 3 .. 12 are gone
    const Bytes before = session.stored("a");
    const auto refused = [&](size_t at, int32_t to, const std::string& words) {
        std::vector<int32_t> clusters = unmerged(200, 4);
        clusters[at] = to;
        const Merge merged = merge(session, "a", clusters);
        CHECK(merged.status == KVC_E_ARGUMENT);
        CHECK_MESSAGE(merged.message.find(words) != std::string::npos, merged.message);
        CHECK(session.stored("a") == before);
    };
    refused(50, 200, "out of range (-1 .. 199)");
    refused(50, -2, "out of range (-1 .. 199)");
    refused(2, 50, "is a sink or lies in the residual window");
    refused(199, -1, "is a sink or lies in the residual window");
    refused(650, 5, "layer 1, head 1: the token at position 50 joins the one at 5, which is not held any more");
    std::vector<int32_t> chain = unmerged(200, 4);
    chain[50] = 60, chain[60] = 70;
    CHECK(merge(session, "a", chain).message.find("which leaves itself") != std::string::npos);
    CHECK(merge(session, "a", unmerged(200, 3)).status == KVC_E_ARGUMENT);
    CHECK(session.stored("a") == before);
    std::vector<int32_t> gone = unmerged(200, 4);
    gone[5] = 77777;  // of a token that left before: not looked at
    const Merge nothing = merge(session, "a", gone);
    CHECK(nothing.status == KVC_OK);
    CHECK(nothing.report.tokens_evicted == 0);
    CHECK(session.stored("a") == before);
    session.open("t", "a:1");
    CHECK(merge(session, "a", unmerged(200, 4)).status == KVC_E_BUSY);
}

TEST_CASE("merge: spare pages and in-cache positions are refused where they are asked for") {
    Session spare(shape + short_window("int4", 10, 3) + " spare_pages=1");
    spare.ok("seq a data=3");
    spare.feed("a", 200, 64);
    CHECK(merge(spare, "a", some_clusters(200, 4)).status == KVC_E_UNSUPPORTED);
    CHECK(merge(spare, "a", some_clusters(200, 4)).message.find("spare_pages") != std::string::npos);
    Session in_cache(shape + short_window("int4", 10, 3) + " positions=in_cache rope_theta=10000");
    in_cache.ok("seq a data=3");
    in_cache.feed("a", 200, 64);
    CHECK(merge(in_cache, "a", some_clusters(200, 4)).status == KVC_E_UNSUPPORTED);
    const auto refused = [](const std::string& create) {
        kvc_scripts::Replay replay({});
        return kvc_scripts::status_word(replay.run(kvc_scripts::parse("create growth=1" + shape + create).at(0)).status);
    };
    CHECK(refused("int4 policy=h2o:300,merge=values spare_pages=1") == "unsupported");
    CHECK(refused("fp16 policy=h2o:300,merge=values spare_pages=1") == "ok");  // 16-bit pages have none
    CHECK(refused("fp16 policy=streaming:300,every=commit,merge=values positions=in_cache rope_theta=10000") == "unsupported");
    CHECK(refused("fp16 policy=streaming:300,merge=values") == "argument");
}

TEST_CASE("merge: an arena without room for private copies refuses, and nothing changes") {
    kvc_scripts::Replay replay({});
    const auto run = [&](const std::string& line) { return replay.run(kvc_scripts::parse(line).at(0)); };
    const auto step = [&](const std::string& name) {
        if (run("begin t " + name + ":60").status != KVC_OK) return false;
        run("append t seed=1 layer=0"), run("append t seed=1 layer=1");
        return run("commit t").status == KVC_OK;
    };
    REQUIRE(run("create arena_bytes=1048576" + shape + short_window("int4", 10, 3)).status == KVC_OK);
    run("seq a data=3"), run("seq filler data=4");
    for (int i = 0; i < 20; ++i)
        REQUIRE(step("a"));
    REQUIRE(run("fork b a length=1200").status == KVC_OK);
    while (step("filler")) {
    }
    std::vector<int32_t> clusters = unmerged(1200, 4);
    for (size_t i = 5; i < 1000; i += 20)
        for (size_t row = 0; row < 4; ++row)
            clusters[row * 1200 + i] = static_cast<int32_t>(i + 1);
    const auto merge_a = [&] {
        return kvc_merge(replay.cache(), replay.handle_of("a"), clusters.data(), 4800, nullptr, nullptr, nullptr);
    };
    const std::vector<uint8_t> before = run("read a layer=1 head=1 part=values").bytes;
    const std::vector<int64_t> stats = run("stats").numbers;
    CHECK(merge_a() == KVC_E_NO_MEMORY);
    CHECK(run("read a layer=1 head=1 part=values").bytes == before);
    CHECK(run("live a layer=1 head=1").numbers.at(0) == 1200);
    CHECK(run("stats").numbers.at(2) == stats.at(2));
    run("destroy filler");
    CHECK(merge_a() == KVC_OK);
}

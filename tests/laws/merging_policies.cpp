// Laws of policies that merge what they evict.
#include <algorithm>

#include "tests/laws/merge_session.h"

using namespace kvc_laws;
using kvc_reference::MergedHead;

namespace {

const std::string everything = ",merge=keys+values,merge_threshold=none";

std::vector<std::string> merging_policies(int64_t budget) {
    std::vector<std::string> all;
    for (const std::string& policy : policies(budget)) {
        if (!is_streaming(policy)) all.push_back(policy + everything);
    }
    return all;
}

}  // namespace

TEST_CASE("merging policies: budgets hold, and the counts of what is kept add up to all tokens") {
    for (const std::string codec :
         {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=3", "k=int8.tok,v=int2.tok.rot.ls,window=0,sinks=0"}) {
        if (!is_served(policy_shape + codec)) continue;
        for (const std::string& policy : merging_policies(120)) {
            CAPTURE(codec);
            CAPTURE(policy);
            Session session(policy_shape + codec + " policy=" + policy);
            session.ok("seq a data=3");
            for (int64_t boundary = 64; boundary <= 384; boundary += 64) {
                feed(session, "a", 64, 40);
                for (int layer = 0; layer < 2; ++layer)
                    for (int head = 0; head < 2; ++head) {
                        const std::vector<int64_t> counts = counts_of(session, "a", layer, head);
                        CHECK(static_cast<int64_t>(counts.size()) == std::min<int64_t>(boundary, 120));
                        CHECK(sum_of(counts) == boundary);
                        CHECK(
                            std::all_of(counts.begin(), counts.begin() + 4, [](int64_t c) { return c == 1; }));  // nothing joins sinks
                    }
            }
        }
    }
}

TEST_CASE("merging policies: attention over what they leave agrees with the formula, on every target") {
    for (const std::string& target : targets())
        for (const std::string& preset : {std::string("fp16"), std::string("int8"), std::string("int4"), std::string("kivi2")})
            for (const std::string more : {",merge=keys+values,merge_threshold=none", ",merge=values,merge_threshold=0.2"})
                for (const bool prompt : {false, true}) {
                    CAPTURE(target);
                    CAPTURE(preset);
                    Session session(" kv_heads=2 q_heads=6 k_dim=64 codec=" + short_window(preset, 10, 4) + " policy=h2o:150" + more,
                                    {target, 0});
                    session.ok("seq a data=3 prompt_length=" + std::to_string(prompt ? 1000 : 0));
                    feed(session, "a", 404, 64);
                    CHECK(sum_of(counts_of(session, "a")) > 160 + 20);
                    CHECK(attention_error(session, "a", 2, 3, 64, true, 4) <= 1e-3);
                }
}

TEST_CASE("merging policies: tokens join the kept key most like theirs, above the threshold") {
    for (const double threshold : {-2.0, 0.1, 0.3}) {
        CAPTURE(threshold);
        const std::string text = threshold < -1 ? "none" : std::to_string(threshold).substr(0, 3);
        Session session(policy_shape + "fp16 policy=key_norm:100,every=never,merge=keys+values,merge_threshold=" + text);
        session.ok("seq a data=3");
        session.feed("a", 200, 64);
        for (int round = 0; round < 2; ++round) {  // the second time counts weigh
            const MergedHead before = head_of(session, "a", 1, 1);
            REQUIRE(evict_by_policy(session, "a") == KVC_OK);
            const MergedHead after = head_of(session, "a", 1, 1);
            REQUIRE(after.positions.size() == 100);
            std::vector<bool> keep;
            for (const int64_t position : before.positions)
                keep.push_back(std::binary_search(after.positions.begin(), after.positions.end(), position));
            const MergedHead expected = kvc_reference::merged(before, kvc_reference::nearest_kept(before, keep, 4, threshold), true);
            CHECK(after.counts == expected.counts);
            for (size_t i = 0; i < after.positions.size(); ++i)
                for (size_t d = 0; d < 32; ++d) {
                    CHECK(std::fabs(after.k[i][d] - expected.k[i][d]) <= 0x1p-9);
                    CHECK(std::fabs(after.v[i][d] - expected.v[i][d]) <= 0x1p-9);
                }
            session.feed("a", 60, 60);
        }
    }
}

TEST_CASE("merging policies: with a budget that suffices, and where no keys are alike enough, nothing differs from eviction") {
    for (const std::string& preset : {std::string("fp16"), std::string("int4")})
        for (const auto& [plain, merging] : {std::pair{"", " policy=h2o:500,merge=keys+values,merge_threshold=none"},
                                             {" policy=h2o:100", " policy=h2o:100,merge=keys+values,merge_threshold=1"},
                                             {" policy=cluster:100,merge=none", " policy=cluster:100,merge_threshold=1"}}) {
            CAPTURE(preset);
            CAPTURE(merging);
            Session a(policy_shape + short_window(preset, 10, 4) + plain), b(policy_shape + short_window(preset, 10, 4) + merging);
            for (Session* each : {&a, &b})
                each->ok("seq a data=3");
            CHECK(feed(a, "a", 300, 64) == feed(b, "a", 300, 64));
            const Bytes mass_aside = a.stored("a");
            if (std::string(plain).empty()) {
                CHECK(positions_of(a, "a") == positions_of(b, "a"));
            } else {
                CHECK(mass_aside == b.stored("a"));
            }
        }
}

TEST_CASE("merging policies: a budget in bytes is never exceeded") {
    for (const std::string& preset : {std::string("fp16"), std::string("int4")}) {
        CAPTURE(preset);
        const int64_t limit = bytes_for_heads(preset == "fp16" ? 240 << 10 : 112 << 10);
        Session session(policy_shape + short_window(preset, 10, 4) + " policy=key_norm:" + std::to_string(limit) + "B" + everything);
        session.ok("seq a data=3");
        for (int i = 0; i < 12; ++i) {
            feed(session, "a", 64, 64);
            CHECK(session.ok("stats a").numbers.at(1) <= limit);
        }
        CHECK(sum_of(counts_of(session, "a", 1, 0)) == 12 * 64);
    }
}

TEST_CASE("merging policies: speculative steps leave no trace of what was rejected") {
    const std::string create = policy_shape + short_window("int4", 10, 4) + " policy=key_norm:100" + everything;
    Session session(create), straight(create);
    for (Session* each : {&session, &straight})
        each->ok("seq a data=3");
    for (int64_t left = 256; left > 0; left -= 8) {
        session.ok("begin t a:" + std::to_string(std::min<int64_t>(16, step_limit(session, "a"))) + " partial_commit=1");
        session.ok("append t seed=1 layer=0"), session.ok("append t seed=1 layer=1"), session.ok("commit t a:8");
        straight.ok("begin t a:8"), straight.ok("append t seed=1 layer=0"), straight.ok("append t seed=1 layer=1"),
            straight.ok("commit t");
    }
    CHECK(session.stored("a") == straight.stored("a"));
    CHECK(sum_of(counts_of(session, "a")) == 256);
}

#include "core/policy/policy.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <numeric>

#include "core/policy/key_statistics.h"

using namespace kvc;

TEST_CASE("policy: select keeps the highest scores, of equal ones the later") {
    const std::vector<double> scores = {1, 5, 5, 0, 5};
    CHECK(select(scores, 0) == std::vector<bool>{false, false, false, false, false});
    CHECK(select(scores, 2) == std::vector<bool>{false, false, true, false, true});
    CHECK(select(scores, 4) == std::vector<bool>{true, true, true, false, true});
    CHECK(select(scores, 99) == std::vector<bool>(5, true));
    CHECK(select({}, 3).empty());
}

TEST_CASE("policy: streaming keeps the newest tokens, also where floats cannot tell positions apart") {
    std::vector<int64_t> positions(1000);
    std::iota(positions.begin(), positions.end(), int64_t{1} << 40);
    std::vector<double> scores(positions.size());
    find_policy("streaming")->score({.positions = positions}, scores);
    const std::vector<bool> keep = select(scores, 300);
    for (size_t i = 0; i < keep.size(); i++)
        CHECK(keep[i] == (i >= 700));
}

namespace {

// Facts of every kind about three tokens.
struct Facts {
    std::vector<int64_t> positions = {3, 5, 9};
    std::vector<float> given = {3, 1, 2}, keys = {1, 0, 0, 1, 3, 4}, norms = {1, 1, 1};
    std::vector<double> mass = {0.5, 2, 1};
    std::vector<int64_t> seen_by = {7, 5, 1};
    std::vector<QuerySums> queries = {{{3 << 16, 0}, {9 << 16, 0}, 1}};

    std::vector<double> scored_by(const char* name) const {
        const Policy& policy = *find_policy(name);
        const std::vector<double> of_keys = key_statistics(policy.traits.keys, keys, 2, query_moments(queries, 2));
        std::vector<double> scores(3, -1e30);
        policy.score({positions, given, mass, seen_by, of_keys, norms, Pooling::none, 1}, scores);
        return scores;
    }
};

}  // namespace

TEST_CASE("policy: every listed policy has a name, a source and a score for each token") {
    for (int i = 0; i < policy_count(); i++) {
        CHECK(find_policy(policy_at(i).name) == &policy_at(i));
        CHECK(policy_at(i).source[0] != 0);
        for (double score : Facts().scored_by(policy_at(i).name))
            CHECK(score > -1e29);
    }
    CHECK(find_policy("nobody") == nullptr);
}

TEST_CASE("policy: each score prefers what its paper prefers") {
    const Facts facts;
    const auto best = [](const std::vector<double>& scores) { return std::max_element(scores.begin(), scores.end()) - scores.begin(); };
    CHECK(best(facts.scored_by("h2o")) == 1);
    CHECK(best(facts.scored_by("tova")) == 1);
    CHECK(best(facts.scored_by("mean_attention")) == 2);  // 1 of one query is more than 2 of five, which is more than 0.5 of seven
    CHECK(facts.scored_by("mean_attention")[0] < facts.scored_by("mean_attention")[1]);
    CHECK(best(facts.scored_by("given")) == 0);
    CHECK(facts.scored_by("key_norm")[2] < facts.scored_by("key_norm")[0]);  // the long key leaves first
    CHECK(best(facts.scored_by("key_diversity")) == 0);       // (3, 4) points where the mean points, (1, 0) is the most unlike
    CHECK(best(facts.scored_by("expected_attention")) == 2);  // the query (3, 0) meets the key (3, 4)
}

TEST_CASE("policy: h2o tells 2^24 + 1 queries from 2^24, where a float sum stops") {
    std::vector<int64_t> positions(3);
    const std::vector<double> mass = {0x1p24, 0x1p24 + 1, 0x1p24};
    std::vector<double> scores(3);
    find_policy("h2o")->score({.positions = positions, .mass = mass}, scores);
    CHECK(select(scores, 1) == std::vector<bool>{false, true, false});
}

TEST_CASE("policy: snapkv smooths over neighbours, by sum or by maximum") {
    std::vector<int64_t> positions(7);
    const std::vector<double> mass = {0, 0, 0, 9, 0, 0, 0};
    std::vector<double> scores(7);
    find_policy("snapkv")->score({.positions = positions, .mass = mass, .pooling = Pooling::average, .pool_width = 3}, scores);
    CHECK(scores == std::vector<double>{0, 0, 9, 9, 9, 0, 0});
    find_policy("snapkv")->score({.positions = positions, .mass = mass, .pooling = Pooling::maximum, .pool_width = 5}, scores);
    CHECK(scores == std::vector<double>{0, 9, 9, 9, 9, 9, 0});
    find_policy("snapkv")->score({.positions = positions, .mass = mass}, scores);
    CHECK(scores == mass);
}

TEST_CASE("policy: heads compete for the layer's budget above a floor, and what must stay counts") {
    HeadScores strong{{9, 8, 7, 6, 1}, {true, true, true, true, false}}, weak{{5, 4, 3, 2, 1}, {true, true, true, true, false}};
    const std::vector<HeadScores> heads = {strong, weak};
    const auto kept = [](const std::vector<bool>& keep) { return std::count(keep.begin(), keep.end(), true); };
    auto keep = keep_competing(heads, 3, std::vector<int64_t>{0, 0});
    CHECK(keep[0] == std::vector<bool>(5, true));
    CHECK(keep[1] == std::vector<bool>{false, false, false, false, true});
    keep = keep_competing(heads, 3, std::vector<int64_t>{0, 1});
    CHECK(kept(keep[0]) == 4);
    CHECK(keep[1] == std::vector<bool>{true, false, false, false, true});
    for (int64_t budget = 1; budget <= 6; budget++) {
        keep = keep_competing(heads, budget, std::vector<int64_t>{(budget - 1) / 2, (budget - 1) / 3});
        CHECK(kept(keep[0]) + kept(keep[1]) == std::min<int64_t>(2 * budget, 10));
    }
    CHECK(keep_within(weak, 2) == std::vector<bool>{true, false, false, false, true});
}

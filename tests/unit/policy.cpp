#include "core/policy/policy.h"

#include <doctest/doctest.h>

#include <numeric>

using namespace kvc;

TEST_CASE("policy: select keeps the highest scores, of equal ones the later") {
    const std::vector<float> scores = {1, 5, 5, 0, 5};
    CHECK(select(scores, 0) == std::vector<bool>{false, false, false, false, false});
    CHECK(select(scores, 2) == std::vector<bool>{false, false, true, false, true});
    CHECK(select(scores, 4) == std::vector<bool>{true, true, true, false, true});
    CHECK(select(scores, 99) == std::vector<bool>(5, true));
    CHECK(select({}, 3).empty());
}

TEST_CASE("policy: streaming keeps the newest tokens, also where floats cannot tell positions apart") {
    std::vector<int64_t> positions(1000);
    std::iota(positions.begin(), positions.end(), int64_t{1} << 40);
    std::vector<float> scores(positions.size());
    find_policy("streaming")->score({positions, {}}, scores);
    const std::vector<bool> keep = select(scores, 300);
    for (size_t i = 0; i < keep.size(); i++) CHECK(keep[i] == (i >= 700));
}

TEST_CASE("policy: every listed policy has a name, a source and a score for each token") {
    std::vector<int64_t> positions = {3, 5, 9};
    std::vector<float> given = {3, 1, 2};
#define KVC_POLICY(function, source) #function,
    const char* const names[] = {
#include "core/policy/policies.def"
    };
#undef KVC_POLICY
    for (const char* name : names) {
        const Policy* policy = find_policy(name);
        REQUIRE(policy != nullptr);
        CHECK(policy->source[0] != 0);
        std::vector<float> scores(3, -1e30f);
        policy->score({positions, given}, scores);
        for (float score : scores) CHECK(score > -1e29f);
    }
    CHECK(find_policy("nobody") == nullptr);
}

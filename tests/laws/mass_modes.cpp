// What the three ways of counting mass mean, by position: exact counts all queries, observed the last ones before a boundary, page lets
// the tokens of a page share their sum.
#include <cstdio>
#include <kvc.h>
#include <string>
#include <vector>

#include "doctest/doctest.h"

namespace {

constexpr size_t dim = 16;

// A cache of one head that has read rows of keys and queries in one step; what its policy then keeps.
std::vector<int64_t> kept(const std::string& policy, const std::vector<float>& k, const std::vector<float>& q) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1, options.kv_heads = 1, options.k_dim = dim, options.arena_tokens = 1024;
    std::snprintf(options.codec, sizeof options.codec, "fp16");
    std::snprintf(options.policy, sizeof options.policy, "%s", policy.c_str());
    kvc_error error = {sizeof error, 0, ""};
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    const kvc_seq seq = kvc_seq_create(cache, nullptr, &error);
    const auto bytes = static_cast<int64_t>(k.size() * sizeof(float)), count = static_cast<int64_t>(k.size() / dim);
    std::vector<float> out(k.size());
    kvc_step* step = kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, &error);
    REQUIRE_MESSAGE(step != nullptr, error.message);
    REQUIRE(kvc_append(step, 0, k.data(), bytes, k.data(), bytes, &error) == KVC_OK);
    REQUIRE(kvc_attend(step, 0, q.data(), bytes, out.data(), bytes, nullptr, 0, nullptr, &error) == KVC_OK);
    REQUIRE(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
    int64_t live = 0;
    REQUIRE(kvc_seq_live(cache, seq, 0, 0, &live, &error) == KVC_OK);
    std::vector<int64_t> positions(static_cast<size_t>(live));
    REQUIRE(kvc_seq_positions(cache, seq, 0, 0, positions.data(), live, nullptr, &error) == KVC_OK);
    kvc_destroy(cache, nullptr);
    return positions;
}

void point(std::vector<float>& rows, size_t row, size_t axis, float length) { rows[row * dim + axis] = length; }

}  // namespace

TEST_CASE("mass: observed counts the last queries before the boundary alone, exact counts all") {
    // Fifteen queries ask for token 5, then five for token 9; one heavy token may stay.
    std::vector<float> k(20 * dim), q(20 * dim);
    point(k, 5, 0, 1), point(k, 9, 1, 1);
    for (size_t t = 0; t < 20; ++t)
        point(q, t, t < 15 ? 0 : 1, 64);
    const std::string common = ":6,sinks=1,recent=4,every=20";
    CHECK(kept("h2o" + common, k, q) == std::vector<int64_t>{0, 5, 16, 17, 18, 19});
    CHECK(kept("h2o" + common + ",mass=exact", k, q) == kept("h2o" + common, k, q));
    CHECK(kept("h2o" + common + ",mass=observed,observe=5", k, q) == std::vector<int64_t>{0, 9, 16, 17, 18, 19});
    CHECK(kept("h2o" + common + ",mass=observed,observe=20", k, q) == kept("h2o" + common, k, q));
    // tova looks at the last query, snapkv at an observation window, whatever came before.
    CHECK(kept("tova" + common, k, q) == std::vector<int64_t>{0, 9, 16, 17, 18, 19});
    CHECK(kept("snapkv" + common + ",observe=5,pool=none", k, q) == std::vector<int64_t>{0, 9, 16, 17, 18, 19});
    CHECK(kept("snapkv" + common + ",observe=20,pool=none", k, q) == std::vector<int64_t>{0, 5, 16, 17, 18, 19});
}

TEST_CASE("mass: with page the tokens of a page share their sum, so that pages are heavy and not tokens") {
    // Tokens 20 and 40 of the page that holds tokens 1 .. 64 are heavy; of the others the oldest, whom most queries saw.
    std::vector<float> k(140 * dim), q(140 * dim);
    point(k, 20, 0, 1), point(k, 40, 0, 1);
    for (size_t t = 0; t < 140; ++t)
        point(q, t, 0, 64);
    const auto with_newest = [](std::vector<int64_t> positions) {
        for (int64_t j = 129; j < 140; ++j)
            positions.push_back(j);
        return positions;
    };
    const std::string common = "h2o:15,sinks=1,recent=11,every=140";
    CHECK(kept(common, k, q) == with_newest({0, 1, 20, 40}));
    CHECK(kept(common + ",mass=page", k, q) == with_newest({0, 62, 63, 64}));
}

TEST_CASE("mass: the mean lets a token that came late stand beside an old one") {
    // Token 5 is asked for by eleven of the fifteen queries since it came, token 15 by four of five.
    std::vector<float> k(20 * dim), q(20 * dim);
    point(k, 5, 0, 1), point(k, 15, 1, 1);
    for (size_t t = 0; t < 20; ++t)
        point(q, t, t < 16 ? 0 : 1, 64);
    const std::string common = ":5,sinks=1,recent=3,every=20";
    CHECK(kept("h2o" + common, k, q) == std::vector<int64_t>{0, 5, 17, 18, 19});
    CHECK(kept("mean_attention" + common, k, q) == std::vector<int64_t>{0, 15, 17, 18, 19});
}

TEST_CASE("mass: the mean of observed queries divides by those that were observed") {
    // Of the last four queries three ask for token 5, which all four see, and one for token 17, which three see.
    std::vector<float> k(20 * dim), q(20 * dim);
    point(k, 5, 0, 1), point(k, 17, 1, 1);
    for (size_t t = 0; t < 20; ++t)
        point(q, t, t < 19 ? 0 : 1, 64);
    CHECK(kept("mean_attention:4,sinks=1,recent=2,every=20,mass=observed,observe=4", k, q) == std::vector<int64_t>{0, 5, 18, 19});
}

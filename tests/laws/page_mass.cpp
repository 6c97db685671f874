// Attention mass by pages: what attend leaves of each page adds up to what the pass over keys finds for its tokens, in every form, and
// depends on nothing else.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/laws/policy_session.h"
#include "tests/laws/precision_session.h"

using namespace kvc_laws;

namespace {

constexpr int64_t unit_rows = int64_t{1} << 30;  // the mass that a row spreads

// Policies that never act by themselves, so that all of them see the same tokens.
const std::string exact = " policy=h2o:8000,every=never", by_page = exact + ",mass=page";

std::vector<int64_t> mass_of(Session& session, const std::string& name, int layer, int head) {
    return session.ok("mass " + head_words(name, layer, head)).numbers;
}

int64_t sum_of(const std::vector<int64_t>& mass, size_t first, size_t end) {
    return std::accumulate(mass.begin() + std::ptrdiff_t(first), mass.begin() + std::ptrdiff_t(end), int64_t{0});
}

// Mass of each run of tokens: `sinks`, then pages. The pass over keys rounds each of a page's tokens for each row, page sums round once;
// besides, exponentials differ by units in the last place.
void check_pages(const std::vector<int64_t>& tokens, const std::vector<int64_t>& pages, size_t sinks, double rows) {
    REQUIRE(tokens.size() == pages.size());
    double worst = 0;
    for (size_t first = 0, end = sinks > 0 ? sinks : 64; first < tokens.size(); first = end, end += 64) {
        end = std::min(end, tokens.size());
        const double expected = double(sum_of(tokens, first, end)), got = double(sum_of(pages, first, end));
        worst = std::max(worst, std::abs(got - expected) / (rows * double(end - first + 1) * 0.5 + expected * 0x1p-16));
        const auto [least, most] = std::minmax_element(pages.begin() + std::ptrdiff_t(first), pages.begin() + std::ptrdiff_t(end));
        REQUIRE(*most - *least <= 1);
        REQUIRE(std::is_sorted(pages.begin() + std::ptrdiff_t(first), pages.begin() + std::ptrdiff_t(end)));
    }
    CHECK(worst <= 1.0);
}

// The same steps and attends of two sessions, whose outputs must be the same bits.
struct Pair {
    Pair(const std::string& create, const kvc_scripts::RunOptions& options = {})
        : tokens(create + exact, options), pages(create + by_page, options) {}

    void ok(const std::string& line) { tokens.ok(line), pages.ok(line); }
    void step(const std::string& counts, const std::string& attend, int layers) {
        for (Session* session : {&tokens, &pages}) {
            session->ok("begin t " + counts);
            outputs[session == &pages].clear();
            for (int layer = 0; layer < layers; ++layer) {
                session->ok("append t layer=" + std::to_string(layer));
                const Bytes out = session->ok("attend t layer=" + std::to_string(layer) + attend).bytes;
                outputs[session == &pages].insert(outputs[session == &pages].end(), out.begin(), out.end());
            }
            session->ok("commit t");
        }
        REQUIRE(!outputs[0].empty());
        CHECK(outputs[0] == outputs[1]);
    }

    Session tokens, pages;
    Bytes outputs[2];
};

}  // namespace

TEST_CASE("page mass: of every preset, in both classes and on every target, a page has the mass of its tokens") {
    for (const std::string& target : targets())
        for (const std::string& preset : presets())
            for (const int64_t prompt : {0, 300}) {
                CAPTURE(target);
                CAPTURE(preset);
                CAPTURE(prompt);
                Pair pair("layers=2 kv_heads=2 q_heads=6 k_dim=32 codec=" + short_window(preset, 40, 4), {target, 2});
                pair.ok("seq a data=3 prompt_length=" + std::to_string(prompt));
                for (const int count : {200, 99, 1, 1, 30})
                    pair.step("a:" + std::to_string(count), "", 2);
                for (int layer = 0; layer < 2; ++layer)
                    for (int head = 0; head < 2; ++head)
                        check_pages(mass_of(pair.tokens, "a", layer, head), mass_of(pair.pages, "a", layer, head), 4, 331 * 3);
            }
}

TEST_CASE("page mass: sliding windows, soft caps, sink logits, causal offsets, and keys before RoPE") {
    for (const auto& [prompt, words] : {std::pair{0, ""}, {300, ""}, {0, " keys=before rope_theta=10000"}})
        for (const char* attend : {" sliding_window=70", " sliding_window=1", " soft_cap=3", " causal_offset=-5", " scale=2"}) {
            CAPTURE(prompt);
            CAPTURE(attend);
            CAPTURE(words);
            Pair pair("layers=1 kv_heads=2 q_heads=4 k_dim=32 codec=k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4" +
                      std::string(words));
            pair.ok("sink_logits layer=0 seed=5");
            pair.ok("seq a data=3 first_position=17 prompt_length=" + std::to_string(prompt));
            for (const int count : {150, 150, 1, 60})
                pair.step("a:" + std::to_string(count), attend, 1);
            for (int head = 0; head < 2; ++head)
                check_pages(mass_of(pair.tokens, "a", 0, head), mass_of(pair.pages, "a", 0, head), 4, 361 * 2);
        }
}

TEST_CASE("page mass: mixed rungs of a ladder, and all that is kept after them") {
    for (const std::string& target : targets()) {
        CAPTURE(target);
        Pair pair("layers=1 kv_heads=2 q_heads=4 k_dim=32 codec=k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=4/int4",
                  {target, 0});
        pair.ok("seq a data=3");
        for (int i = 0; i < 4; ++i)
            pair.step("a:100", "", 1);
        for (Session* session : {&pair.tokens, &pair.pages})
            stepped(*session, "a", {0, 0, 0, 0, 190});
        pair.step("a:20", "", 1);
        const std::vector<int64_t> rungs = rungs_of(pair.pages, "a");
        REQUIRE(std::count(rungs.begin(), rungs.end(), 0) > 0);
        REQUIRE(std::count(rungs.begin(), rungs.end(), 1) > 0);
        for (int head = 0; head < 2; ++head)
            check_pages(mass_of(pair.tokens, "a", 0, head), mass_of(pair.pages, "a", 0, head), 4, 420 * 2);
    }
}

TEST_CASE("page mass: whatever was evicted, merged or repacked, a query spreads all of its mass, and forks go on as their source") {
    for (const char* policy :
         {"h2o:160", "mean_attention:160", "snapkv:160", "tova:160", "h2o:160,merge=keys+values,merge_threshold=none"})
        for (const char* codec :
             {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4", "k=int8.tok.rot.sym,v=int8.tok.rot.sym,window=10"}) {
            CAPTURE(policy);
            CAPTURE(codec);
            if (!is_served(policy_shape + std::string(codec))) continue;
            Session session(policy_shape + std::string(codec) + " policy=" + policy + ",recent=10%,mass=page");
            session.ok("seq a data=3");
            feed(session, "a", 320, 64);
            CHECK(int64_t(positions_of(session, "a").size()) < 320);
            session.ok("fork b a length=320");
            const auto all = [&](const char* name) {
                int64_t sum = 0;
                for (const int64_t mass : mass_of(session, name, 1, 1))
                    sum += mass;
                return sum;
            };
            const int64_t before = all("a");
            feed(session, "a", 9, 9);
            const std::string words = policy;
            if (words.starts_with("h2o") || words.starts_with("mean")) {
                const double spread = double(all("a") - before) / double(unit_rows);
                CHECK(std::abs(spread - 9 * 2) <= 1e-4);
            }
            feed(session, "b", 9, 2);
            CHECK(session.stored("b") == session.stored("a"));
            feed(session, "a", 64, 64), feed(session, "b", 64, 13);
            CHECK(session.stored("b") == session.stored("a"));
        }
}

TEST_CASE("page mass: tokens that come while no query counts share what their page has got before") {
    for (const std::string policy : {"tova:8000,mass=page", "snapkv:8000,mass=page,observe=8", "h2o:8000,mass=page,every=never"})
        for (const int chunk : {1, 7, 60}) {
            CAPTURE(policy);
            CAPTURE(chunk);
            Session session(policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=36 policy=" + policy);
            session.ok("seq a data=3");
            feed(session, "a", 64, 64);  // 28 tokens of the first page
            const std::vector<int64_t> before = mass_of(session, "a", 1, 1);
            const int64_t got = sum_of(before, 36, 64);
            REQUIRE(got > 28);
            for (int64_t length = 64; length < 110;) {
                const int64_t n = std::min<int64_t>(chunk, 110 - length);
                session.ok("begin t a:" + std::to_string(n));
                // No query of it counts: none is near a boundary, or none sees the page.
                for (int layer = 0; layer < 2; ++layer) {
                    session.ok("append t layer=" + std::to_string(layer));
                    session.ok("attend t causal_offset=-75 layer=" + std::to_string(layer));
                }
                session.ok("commit t");
                length += n;
                const std::vector<int64_t> mass = mass_of(session, "a", 1, 1);
                const size_t end = std::min<size_t>(100, mass.size());
                CHECK(sum_of(mass, 36, end) == got);
                const auto [least, most] = std::minmax_element(mass.begin() + 36, mass.begin() + std::ptrdiff_t(end));
                CHECK(*most - *least <= 1);
            }
        }
}

TEST_CASE("page mass: neither the cut, nor threads, nor rounds of a long step change a bit") {
    Bytes expected;
    const std::string create = "layers=1 kv_heads=4 q_heads=32 k_dim=16 codec=k=int4.tok.rot.sym,v=int4.tok.rot.sym" + by_page;
    for (const auto& [chunk, threads] : {std::pair{4096, 2}, {700, 0}, {4095, 1}}) {
        CAPTURE(chunk);
        Session session(create, {"", threads});
        session.ok("seq a data=3 prompt_length=4096");
        session.feed("a", 4096, chunk);
        if (expected.empty()) expected = session.stored("a");
        CHECK(session.stored("a") == expected);
    }
}

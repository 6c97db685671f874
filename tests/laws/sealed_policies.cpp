// Law: sealing a prefix changes the form of its window and nothing else: what a policy evicted, merged and counted until then stays as it
// was, and decides as it would have.
#include "tests/laws/merge_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";
constexpr int64_t sinks = 40, pages = 6, length = sinks + 64 * pages;  // amid the queries that the next boundary looks at

std::string key(int64_t n) { return " text=3 n=" + std::to_string(n); }

// All that act by themselves, what they count by pages and of the last queries alone, and what they merge.
std::vector<std::string> policies_and_variants() {
    std::vector<std::string> all = policies(220, ",recent=10%");
    all.erase(std::remove_if(all.begin(), all.end(), is_streaming), all.end());
    for (const char* more : {",mass=page", ",mass=observed", ",heads=ada", ",merge=keys+values,merge_threshold=none"})
        all.push_back("h2o:220,recent=10%" + std::string(more));
    all.push_back("streaming:220");
    return all;
}

// A sequence "a" of `length` tokens and "b", a hit of its entry that was sealed there.
void seal(Session& session) {
    session.ok("publish a seal=1" + key(length));
    REQUIRE(session.ok("lookup b data=3" + key(length + 1)).numbers[0] == length);
}

}  // namespace

TEST_CASE("sealed policies: a hit has the tokens, counts and mass of its source") {
    for (const std::string& policy : policies_and_variants()) {
        CAPTURE(policy);
        Session session(" policy=" + policy + shape + short_window("int4", 70, sinks));
        session.ok("seq a data=3");
        feed(session, "a", length, 64);
        seal(session);
        int64_t mass = 0, merged = 0;
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head) {
                for (const std::string question : {"positions ", "counts ", "mass "})
                    CHECK(session.ok(question + head_words("b", layer, head)).numbers ==
                          session.ok(question + head_words("a", layer, head)).numbers);
                mass += sum_of(session.ok("mass " + head_words("b", layer, head)).numbers);
                merged += sum_of(counts_of(session, "b", layer, head)) - session.number("live " + head_words("b", layer, head));
            }
        CHECK(session.number("live b") < length);
        if (policy.starts_with("h2o")) CHECK(mass > 0);
        if (policy.find("threshold=none") != std::string::npos) CHECK(merged > 0);
    }
}

TEST_CASE("sealed policies: where there is no window to give up, a hit goes on as its source does, bit for bit") {
    for (const std::string& policy : policies_and_variants()) {
        CAPTURE(policy);
        Session session(" policy=" + policy + shape + short_window("int4", 0, sinks));
        session.ok("seq a data=3");
        feed(session, "a", length, 64);
        seal(session);
        CHECK(session.stored("b") == session.stored("a"));
        for (int boundary = 0; boundary < 3; ++boundary) {
            CHECK(feed(session, "b", 64, 64) == feed(session, "a", 64, 64));
            CHECK(session.stored("b") == session.stored("a"));
        }
    }
}

TEST_CASE("sealed policies: what the last queries told is there when kvc_evict asks for it") {
    for (const std::string name : {"tova", "snapkv", "expected_attention", "h2o", "mean_attention"}) {
        CAPTURE(name);
        Session session(" policy=" + name + ":220,recent=0,every=never" + shape + short_window("int4", 0, sinks));
        session.ok("seq a data=3");
        feed(session, "a", length, 64);
        seal(session);
        for (const char* each : {"a", "b"})
            REQUIRE(evict_by_policy(session, each) == KVC_OK);
        CHECK(session.number("live a") == 220);
        CHECK(session.stored("b") == session.stored("a"));
    }
}

TEST_CASE("sealed policies: what a cut found dead in a page of the window stays dead") {
    for (const char* preset : {"int4", "int8", "kivi2"}) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, 70, sinks));
        session.ok("seq a data=3");
        session.feed("a", length, 64);
        session.ok("evict a scores=5 budget=200");
        session.ok("truncate a cut=inexact length=" + std::to_string(sinks + 64 + 50));
        session.feed("a", 64 + 14, 64);
        const int64_t n = sinks + 3 * 64;
        const std::vector<int64_t> held = positions_of(session, "a");
        int64_t in_window = 0;
        for (const int64_t position : held)
            in_window += position >= sinks + 64;
        REQUIRE(in_window < 2 * 64);
        session.ok("publish a seal=1" + key(n));
        REQUIRE(session.ok("lookup b data=3" + key(n + 1)).numbers[0] == n);
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head)
                CHECK(positions_of(session, "b", layer, head) == positions_of(session, "a", layer, head));
        // And what is seen in a step is what is read.
        session.feed("b", 100, 50), session.feed("a", 100, 50);
        CHECK(positions_of(session, "b") == positions_of(session, "a"));
        CHECK(session.ok("read b layer=1 head=1 part=values").values == session.ok("read a layer=1 head=1 part=values").values);
    }
}

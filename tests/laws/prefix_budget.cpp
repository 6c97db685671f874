// Law: whether an entry fits the index's budget is known to the byte before anything is dropped for it.
#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

constexpr int64_t sinks = 3, window = 10;
const std::string shape = " layers=2 kv_heads=2 q_heads=6 k_dim=32 codec=";

std::string key(int64_t n) { return " text=3 n=" + std::to_string(n); }
int64_t bytes_held(Session& session) { return session.ok("prefix_stats").numbers[2]; }

// One sequence, under a policy that has evicted from it or under none.
void fill(Session& session, int64_t tokens) {
    session.ok("seq a data=3");
    feed(session, "a", tokens, 64);
}

}  // namespace

TEST_CASE("prefix budget: an entry of so many bytes fits as many, and one fewer is refused") {
    std::vector<std::string> creates;
    for (const std::string& preset : presets())
        for (const std::string more : {"", " spare_pages=2", " sliding_window=100", " policy=h2o:150", " policy=streaming:150"})
            creates.push_back(more + shape + short_window(preset, window, more.find("policy") < 2 ? 4 : sinks));
    creates.push_back("layer 1 codec=fp16;" + shape + short_window("int4", window, sinks));
    for (const std::string& create : creates) {
        CAPTURE(create);
        const int64_t whole = (create.find("policy") < 2 ? 4 : sinks) + 64 * 4;
        for (const bool sealed : {false, true})
            for (const int64_t beyond : {0, 1, 7}) {
                CAPTURE(sealed);
                CAPTURE(beyond);
                Session session(create);
                fill(session, whole + beyond);
                const int64_t n = sealed ? whole : whole + beyond - beyond / 7;  // 7: through a page of the window
                const std::string publish = "publish a" + key(n) + (sealed ? " seal=1" : "");
                if (session.number("floor a") > n) continue;
                session.ok(publish);
                const int64_t bytes = bytes_held(session);
                session.ok("unpublish n=1 text=3");
                session.ok("prefix_budget bytes=" + std::to_string(bytes - 1));
                const std::vector<int64_t> before = session.stats();
                CHECK(session.status(publish) == "no_memory");
                CHECK(session.stats() == before);
                session.ok("prefix_budget bytes=" + std::to_string(bytes));
                session.ok(publish);
                CHECK(bytes_held(session) == bytes);
            }
    }
}

TEST_CASE("prefix budget: what a pinned entry shares with a new one counts once, and what is replaced not at all") {
    Session session(shape + short_window("int4", window, sinks));
    fill(session, sinks + 64 * 4);
    session.ok("publish a pinned=1" + key(sinks + 64 * 4));
    session.feed("a", 64 * 2, 64);
    session.ok("publish a text=3 n=" + std::to_string(sinks + 64 * 6));
    const int64_t both = bytes_held(session);
    session.ok("prefix_budget bytes=" + std::to_string(both));
    session.ok("publish a seal=1" + key(sinks + 64 * 6));  // smaller, and in the place of the open one
    const int64_t sealed = bytes_held(session);
    CHECK(sealed < both);
    session.ok("prefix_budget bytes=" + std::to_string(both - 1));
    CHECK(session.status("publish a" + key(sinks + 64 * 6)) == "no_memory");
    CHECK(bytes_held(session) == sealed);
    session.ok("prefix_budget bytes=" + std::to_string(both));
    session.ok("publish a" + key(sinks + 64 * 6));
    CHECK(bytes_held(session) == both);
}

TEST_CASE("prefix budget: a refused entry costs no other one its place, though the arena is full") {
    for (const std::string seal : {"", " seal=1"}) {
        CAPTURE(seal);
        Session session(" growth=0 arena_bytes=1048576 layers=1 kv_heads=4 q_heads=4 k_dim=64 codec=" +
                        short_window("int4", 128, sinks));
        session.ok("seq a data=3");
        session.feed("a", sinks + 64 * 4 + (seal.empty() ? 5 : 0), 64);
        for (int i = 0; i < 200; i++) {
            const std::string name = "f" + std::to_string(i);
            session.ok("seq " + name + " data=1");
            const int64_t tokens = session.status("begin t " + name + ":67") == "ok" ? 67 : 4;
            if (tokens == 67) session.ok("abort t");
            if (session.status("begin t " + name + ":" + std::to_string(tokens)) != "ok") break;
            session.ok("abort t");
            session.feed(name, tokens, tokens);
        }
        session.ok("publish f0 text=9 n=67");
        session.ok("destroy f0");
        session.ok("prefix_budget bytes=" + std::to_string(bytes_held(session) + 100));
        const std::vector<int64_t> before = session.ok("prefix_stats").numbers, records = session.stats();
        CHECK(session.status("publish a" + seal + key(session.number("length a"))) == "no_memory");
        CHECK(session.ok("prefix_stats").numbers == before);
        CHECK(session.stats() == records);
        session.ok("prefix_budget bytes=0");
        session.ok("publish a" + seal + key(session.number("length a")));  // now it takes the other one's place
        CHECK(session.ok("prefix_stats").numbers[7] == before[7] + 1);
    }
}

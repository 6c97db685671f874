// Law: what a sequence shares with entries of the prefix index alone is no reason to refuse it room: its pages step down, and it evicts,
// as if there were no index.
#include "tests/laws/precision_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=32 growth=0 arena_bytes=1048576 codec=";
const std::string rest = ",window=10,sinks=3/int4";
const std::vector<std::string> ladders = {"k=int8.ch.g32.m8,v=int8.tok.rot.sym" + rest, "k=f16,v=f16" + rest};

int64_t prefix_evictions(Session& session) { return session.ok("prefix_stats").numbers[7]; }

// A sequence whose every page an entry holds, too, in an arena without room for another 192 tokens.
void fill(Session& session, const std::string& published, int64_t forked_at = 0) {
    session.ok("seq a data=3");
    int64_t tokens = 0;
    for (; session.status("begin t a:192") == "ok"; tokens += 64) {
        session.ok("abort t");
        session.feed("a", 64, 64);
        if (tokens + 64 == forked_at) session.ok("fork b a length=" + std::to_string(forked_at));
    }
    session.ok("publish a text=1 n=" + std::to_string(tokens) + published);
    REQUIRE(session.status("begin t a:192") == "no_memory");
    REQUIRE(prefix_evictions(session) == 0);
}

}  // namespace

TEST_CASE("prefix step-down: pages that only entries share step down in a full arena, and the sequence goes on") {
    for (const std::string& codec : ladders) {
        CAPTURE(codec);
        Session session(shape + codec), alone(shape + codec);
        fill(session, "");
        const SteppedDown made = stepped(session, "a");
        CHECK(made.report.pages > 0);
        CHECK(made.report.bytes_freed > 0);
        CHECK(prefix_evictions(session) == 1);
        check_bytes(session, "a");
        alone.ok("seq a data=3");
        alone.feed("a", session.number("length a"), 64);
        stepped(alone, "a");
        CHECK(session.stored("a") == alone.stored("a"));
        session.feed("a", 64, 64);
    }
}

TEST_CASE("prefix step-down: where a fork holds the pages, too, or the entry is pinned, nothing is dropped") {
    for (const bool pinned : {false, true}) {
        CAPTURE(pinned);
        Session session(shape + ladders[0]);
        fill(session, pinned ? " pinned=1" : "", pinned ? 0 : 1280);
        const Bytes stored = session.stored("a");
        CHECK(step_down(session, "a").status == KVC_E_NO_MEMORY);
        CHECK(session.stored("a") == stored);
        CHECK(prefix_evictions(session) == 0);
    }
}

TEST_CASE("prefix step-down: a full arena evicts from pages that only entries share") {
    for (const std::string& codec : ladders) {
        CAPTURE(codec);
        Session session(shape + codec), alone(shape + codec);
        fill(session, "");
        const int64_t length = session.number("length a");
        const std::string evict = "evict a budget=" + std::to_string(length / 2) + " scores=4";
        session.ok(evict);
        alone.ok("seq a data=3");
        alone.feed("a", length, 64);
        alone.ok(evict);
        CHECK(session.stored("a") == alone.stored("a"));
        session.feed("a", 64, 64);
    }
}

TEST_CASE("prefix step-down: a hit of a sealed entry has no window, and every page of it goes down") {
    const std::string codec = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=200,sinks=3/int4";
    const int64_t n = 3 + 64 * 6;
    for (const std::string budget : {"", " budget_bytes="}) {
        CAPTURE(budget);
        Session session(shape + codec);
        session.ok("seq a data=3");
        session.feed("a", n, 64);
        session.ok("publish a seal=1 text=3 n=" + std::to_string(n));
        session.ok("destroy a");
        REQUIRE(session.ok("lookup b data=3 text=3 n=" + std::to_string(n + 1)).numbers[0] == n);
        int64_t least = 0;
        for (const bool again : {false, true}) {  // once for all, then to the byte that this came to
            if (again && budget.empty()) break;
            if (again) session.ok("destroy b");
            if (again) session.ok("lookup b data=3 text=3 n=" + std::to_string(n + 1));
            if (again) CHECK(session.status("step_down b budget_bytes=" + std::to_string(least - 1)) == "argument");
            session.ok("step_down b" + (again ? budget + std::to_string(least) : std::string()));
            for (int64_t layer : {0, 1}) {
                const std::vector<int64_t> rungs = session.ok("rungs b layer=" + std::to_string(layer)).numbers;
                CHECK(std::count(rungs.begin(), rungs.end(), -1) == 3);
                CHECK(std::count(rungs.begin(), rungs.end(), 1) == n - 3);
            }
            least = record_bytes_of(session, "b");
        }
        session.feed("b", 300, 70);
    }
}

// Laws of ladders with ages: pages step down by position alone, whoever cuts the stream, and the planner knows.
#include "tests/laws/precision_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=1 q_heads=2 k_dim=32 v_dim=32 codec=";
const std::string aging = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3/int4@100/int2@600";

// The rung that the token has in a sequence of that length.
int64_t expected_rung(int64_t index, int64_t length, int64_t window = 10) {
    if (index < 3) return -1;
    const int64_t page_end = 3 + ((index - 3) / 64 + 1) * 64, boundary = length / 512 * 512;
    if (page_end > length - window) return -1;
    if (page_end > boundary - window) return 0;
    return boundary - page_end >= 600 ? 2 : boundary - page_end >= 100 ? 1 : 0;
}

}  // namespace

TEST_CASE("ages: what is stored and computed depends on positions alone, in both kernel classes") {
    for (const int64_t prompt : {0, 1100})
        for (const std::string& codec : {aging, std::string("fp16/int8@100/int4@600")}) {
            CAPTURE(prompt);
            CAPTURE(codec);
            const std::string line = "seq a data=3 first_position=77 prompt_length=" + std::to_string(prompt);
            Session whole(shape + codec), cut(shape + codec, {"", 2});
            whole.ok(line), cut.ok(line);
            Bytes expected, got;
            for (const int64_t length : {511, 512, 513, 1023, 1024, 1100, 1600}) {
                CAPTURE(length);
                const int64_t more = length + 77 - whole.number("length a");
                // Rows come in the order of steps, layer by layer: the last step alone compares.
                feed(whole, "a", more - 1, 512), feed(cut, "a", more - 1, 37);
                CHECK(feed(whole, "a", 1, 1) == feed(cut, "a", 1, 1));
                CHECK(whole.stored("a") == cut.stored("a"));
                CHECK(rungs_of(whole, "a") == rungs_of(cut, "a"));
                CHECK(record_bytes_of(whole, "a") == record_bytes_of(cut, "a"));
                check_bytes(whole, "a");
            }
        }
}

TEST_CASE("ages: pages take their rung at the boundary that says so, and not before") {
    Session session(shape + aging);
    session.ok("seq a data=3");
    for (const int64_t length : {200, 511, 512, 513, 1023, 1024, 1536, 1700}) {
        CAPTURE(length);
        feed(session, "a", length - session.number("length a"), 100);
        const std::vector<int64_t> rungs = rungs_of(session, "a", 1);
        for (int64_t i = 0; i < length; ++i)
            CHECK_MESSAGE(rungs[static_cast<size_t>(i)] == expected_rung(i, length), i);
        if (length % 512 == 0) CHECK(session.number("floor a") == length);
    }
}

TEST_CASE("ages: steps end at boundaries, forks go on alike, and aborted steps leave nothing") {
    Session session(shape + aging);
    session.ok("seq a data=3");
    CHECK(step_limit(session, "a") == 512);
    CHECK(session.status("begin t a:513") == "argument");
    feed(session, "a", 500, 100);
    CHECK(step_limit(session, "a") == 12);
    CHECK(session.status("begin t a:13") == "argument");
    session.ok("fork b a length=500");
    const Bytes before = session.stored("a");
    session.ok("begin t a:12");
    session.ok("abort t");
    CHECK(session.stored("a") == before);
    const Bytes out = feed(session, "b", 140, 50);
    CHECK(session.stored("a") == before);
    CHECK(feed(session, "a", 140, 50) == out);
    CHECK(session.stored("a") == session.stored("b"));
    // Speculative steps may accept up to the boundary.
    feed(session, "a", 1020 - session.number("length a"), 64);
    session.ok("begin s a:4 partial_commit=1");
    for (int layer = 0; layer < 2; ++layer)
        session.ok("append s seed=1 layer=" + std::to_string(layer));
    session.ok("commit s a:2");
    feed(session, "a", 2, 1);
    CHECK(rungs_of(session, "a")[3] == expected_rung(3, 1024));
}

TEST_CASE("ages: the planner's records are those of the arena, and its arena runs the request") {
    for (const int64_t tokens : {300, 600, 1024, 1025, 1500, 2048})
        for (const std::string& codec : {aging, std::string("fp16/int8@100/int4@600"), std::string("int8/int4@128")}) {
            CAPTURE(tokens);
            CAPTURE(codec);
            Session planner(shape + codec);
            const std::string words = "plan step_tokens=100 tokens=" + std::to_string(tokens);
            const std::vector<int64_t> plan = planner.ok(words).numbers;
            Session session(shape + codec + " growth=0 arena_bytes=" + std::to_string(plan[0]));
            session.ok("seq a data=3");
            feed(session, "a", tokens - 1, 100);
            feed(session, "a", 1, 1);
            CHECK(session.stats()[2] == plan[2]);
        }
}

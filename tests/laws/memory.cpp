// Law: the planner's answer is the allocator's, to the byte; exhausted memory refuses a step at begin and changes nothing.
#include <algorithm>
#include <kvc.h>
#include <sys/resource.h>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

struct Plan {
    int64_t arena, slab, records, fp16, max_tokens, max_sequences;
};

Plan plan_of(Session& session, const std::string& request) {
    const std::vector<int64_t> n = session.ok("plan " + request).numbers;
    return {n[0], n[1], n[2], n[3], n[4], n[5]};
}

const std::vector<std::string> shapes = {
    " layers=2 kv_heads=2 q_heads=4 k_dim=64 codec=int4",
    " layers=3 kv_heads=1 k_dim=128 v_dim=64 codec=k3v2",
    " layers=2 kv_heads=3 k_dim=80 codec=fp16",
    " layers=2 kv_heads=2 k_dim=96 codec=kivi2 spare_pages=2",
    "layer 1 sliding_window=100 codec=int8; layers=2 kv_heads=2 k_dim=64 codec=int2",
};

}  // namespace

TEST_CASE("planner: the records of sequences at rest are what it says, to the byte") {
    for (const std::string& shape : shapes)
        for (const int64_t tokens : thinned<int64_t>({1, 3, 4, 5, 64, 68, 69, 131, 132, 195, 196, 197, 700, 260})) {
            CAPTURE(shape);
            CAPTURE(tokens);
            if (!is_served(shape)) continue;
            Session session(shape);
            for (const char* name : {"a", "b"}) {
                session.ok(std::string("seq ") + name);
                session.feed(name, tokens, 512);
            }
            const Plan plan = plan_of(session, "sequences=2 tokens=" + std::to_string(tokens));
            CHECK(session.stats()[2] == plan.records);
            const std::vector<int64_t> a = session.ok("stats a").numbers;  // tokens, records, shared, fp16
            CHECK(2 * a[1] == plan.records);
            CHECK(2 * a[3] == plan.fp16);
        }
}

TEST_CASE("planner: its arena runs the request, peak included, and one slab less does not") {
    for (const std::string& shape : shapes)
        for (const char* extra : {"", " partial_commit=1"}) {
            CAPTURE(shape);
            CAPTURE(extra);
            if (!is_served(shape)) continue;
            Session planner(shape);
            const Plan plan = plan_of(planner, std::string("sequences=2 tokens=500 step_tokens=200") + extra);
            for (const bool enough : {true, false}) {
                Session session(shape + " growth=0 arena_bytes=" + std::to_string(enough ? plan.arena : plan.arena - plan.slab));
                // Prompts one after another, then all decode together.
                std::string failed;
                for (const char* name : {"a", "b"}) {
                    session.ok(std::string("seq ") + name);
                    for (int64_t fed = 0; fed < 499 && failed.empty(); fed += 200) {
                        const std::string step = name + std::to_string(fed);
                        const std::string line =
                            "begin " + step + " " + name + ":" + std::to_string(std::min<int64_t>(200, 499 - fed)) + extra;
                        const std::string status = session.status(line);
                        if (status != "ok") {
                            failed = status;
                            continue;
                        }
                        for (int64_t l = 0; l < session.replay.shapes().options.layers; ++l)
                            session.ok("append " + step + " layer=" + std::to_string(l));
                        session.ok("commit " + step);
                    }
                }
                if (failed.empty()) failed = session.status(std::string("begin last a:1 b:1") + extra);
                CHECK(failed == (enough ? "ok" : "no_memory"));
                if (enough) CHECK(session.stats()[0] == plan.arena);
            }
        }
}

TEST_CASE("stats: parts add up, bound covers records, and everything goes back with the last sequence") {
    for (const std::string& shape : shapes) {
        if (!is_served(shape)) continue;
        CAPTURE(shape);
        Session session(shape);
        session.ok("seq a");
        session.feed("a", 300, 150);
        session.ok("fork b a length=300");
        session.open("t", "a:70 b:10");
        const std::vector<int64_t> n = session.stats();
        CHECK(n[2] == n[3] + n[4] + n[5] + n[6] + n[7]);
        CHECK(n[6] > 0);
        CHECK(n[2] <= n[1]);
        CHECK(n[1] <= n[0]);
        session.ok("abort t");
        CHECK(session.stats()[6] == 0);
        session.ok("destroy a");
        session.ok("destroy b");
        CHECK(session.stats()[1] == 0);  // empty slabs are unbound
        CHECK(session.stats()[2] == 0);
    }
}

TEST_CASE("no memory: begin refuses, all is as before, and the step can be begun after freeing") {
    for (const std::string& shape : shapes) {
        if (!is_served(shape)) continue;
        CAPTURE(shape);
        Session session(shape + " growth=0 arena_tokens=400 arena_sequences=2"), clean(shape);
        for (Session* s : {&session, &clean}) {
            s->ok("seq a data=3");
            s->feed("a", 300, 100);
        }
        session.ok("seq b");
        session.feed("b", 100, 100);
        const Bytes before = session.stored("a");
        const std::vector<int64_t> stats = session.stats();
        CHECK(session.status("begin t a:100000") == "no_memory");
        CHECK(session.status("begin t b:1 a:100000") == "no_memory");
        CHECK(session.stored("a") == before);
        CHECK(session.stats() == stats);
        session.ok("destroy b");
        CHECK(session.feed("a", 60, 20) == clean.feed("a", 60, 20));
        CHECK(session.stored("a") == clean.stored("a"));
    }
}

TEST_CASE("no memory: a step that no arena could hold is refused before the host's memory is asked for its tables") {
    for (const std::string codec : {"int4", "fp16"}) {
        Session session(" layers=2 kv_heads=2 k_dim=64 arena_tokens=1000 growth=0 codec=" + codec);
        session.ok("seq a");
        rusage before{}, after{};
        getrusage(RUSAGE_SELF, &before);
        for (int bits = 20; bits <= 40; ++bits)
            CHECK(session.status("begin t a:" + std::to_string(int64_t{1} << bits)) == "no_memory");
        getrusage(RUSAGE_SELF, &after);
        CHECK(after.ru_maxrss - before.ru_maxrss < 64 << 10);  // KiB
        session.feed("a", 300, 100);
    }
}

TEST_CASE("no memory: an arena filled to the brim serves what it holds, and serves again after a truncate") {
    Session session(" arena_tokens=400 growth=0 layers=2 kv_heads=2 k_dim=32 codec=" + short_window("int4", 5, 3));
    session.ok("seq a data=3");
    int64_t tokens = 0;
    while (session.status("begin t" + std::to_string(tokens) + " a:10") == "ok") {
        const std::string step = "t" + std::to_string(tokens);
        session.ok("append " + step + " layer=0 seed=1");
        session.ok("append " + step + " layer=1 seed=1");
        session.ok("attend " + step + " layer=1 seed=1");
        session.ok("commit " + step);
        tokens += 10;
        REQUIRE(tokens < 1000000);
    }
    CHECK(tokens >= 400);
    CHECK(session.number("length a") == tokens);
    const int64_t floor = session.number("floor a");
    session.ok("truncate a length=" + std::to_string(floor));
    session.feed("a", tokens - floor, 10);
    CHECK(session.number("length a") == tokens);
}

TEST_CASE("bits: codec_bits is what the preset is said to have, effective_bits approaches it") {
    struct Expected {
        const char* preset;
        double bits;
    };
    for (const Expected& e : {Expected{"int8", 8.5}, Expected{"int4", 4.5}, Expected{"int3", 3.5}, Expected{"k3v2", 3.0},
                              Expected{"int2", 2.5}, Expected{"fp16", 16.0}, Expected{"kivi4", 5.0}, Expected{"kivi2", 3.0}}) {
        CAPTURE(e.preset);
        Session session(std::string(" kv_heads=1 k_dim=64 codec=") + e.preset);
        session.ok("seq a");
        session.feed("a", 2000, 1000);
        kvc_seq_stats stats{};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_seq_stats_get(session.replay.cache(), session.replay.handle_of("a"), &stats, nullptr) == KVC_OK);
        CHECK(stats.codec_bits <= e.bits);
        CHECK(stats.codec_bits > e.bits - 0.26);
        CHECK(stats.effective_bits >= stats.codec_bits);
        CHECK(stats.effective_bits < stats.codec_bits + 2.2);
    }
}

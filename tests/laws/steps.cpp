// Law: a step is a transaction. Abort and rejected tokens leave no trace; what fails changes nothing; after begin memory cannot run out.
#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";

std::vector<int64_t> without_counters(std::vector<int64_t> stats) {
    stats.resize(10);  // arena .. open_steps; the counters "since creation" count aborted work too
    return stats;
}

}  // namespace

TEST_CASE("abort: equals never begun, for what is stored, for memory, and for all that follows") {
    for (const std::string& preset : presets())
        for (const char* options : {"", "partial_commit=1", "accumulate=1"}) {
            CAPTURE(preset);
            CAPTURE(options);
            Session session(shape + short_window(preset, 10, 3)), never(shape + short_window(preset, 10, 3));
            for (Session* s : {&session, &never}) {
                s->ok("seq a data=3");
                s->ok("seq b data=4");
                s->feed("a", 100, 100);
            }
            const Bytes before = session.stored("a");
            const std::vector<int64_t> stats = without_counters(session.stats());
            session.open("t", std::string("a:150 b:20 ") + options);
            CHECK(without_counters(session.stats()) != stats);
            session.ok("abort t");
            CHECK(session.stored("a") == before);
            CHECK(without_counters(session.stats()) == stats);
            CHECK(session.feed("a", 90, 45) == never.feed("a", 90, 45));
            CHECK(session.stored("a") == never.stored("a"));
        }
}

TEST_CASE("partial commit: k of n tokens equals a step of k tokens, for every k") {
    for (const std::string& preset : {std::string("int4"), std::string("fp16"), std::string("kivi2")}) {
        for (int64_t accepted : {0, 1, 2, 63, 64, 65, 100, 139, 140}) {
            CAPTURE(preset);
            CAPTURE(accepted);
            Session session(shape + short_window(preset, 5, 3)), plain(shape + short_window(preset, 5, 3));
            for (Session* s : {&session, &plain})
                s->ok("seq a data=3"), s->ok("seq b data=4"), s->feed("a", 60, 60);
            session.open("t", "a:140 b:3 partial_commit=1");
            session.ok("commit t a:" + std::to_string(accepted) + " b:2");
            plain.feed("a", accepted, 1000);
            plain.feed("b", 2, 2);
            CHECK(session.stored("a") == plain.stored("a"));
            CHECK(session.stored("b") == plain.stored("b"));
            CHECK(session.number("floor a") == plain.number("floor a"));
            CHECK(session.feed("a", 70, 35) == plain.feed("a", 70, 35));
            CHECK(session.stored("a") == plain.stored("a"));
        }
    }
}

TEST_CASE("partial commit: counts out of range, too few, or without the option are refused and the step stays open") {
    Session session(shape + "int4");
    session.ok("seq a");
    session.ok("seq b");
    session.open("t", "a:5 b:2 partial_commit=1");
    CHECK(session.status("commit t a:6 b:0") == "argument");
    CHECK(session.status("commit t a:-1 b:0") == "argument");
    CHECK(session.status("commit t a:5") == "argument");
    session.ok("commit t a:2 b:0");
    CHECK(session.number("length a") == 2);
    CHECK(session.number("length b") == 0);
    session.open("u", "a:5");
    CHECK(session.status("commit u a:4") == "argument");
    session.ok("commit u a:5");
    CHECK(session.status("begin v a:1 partial_commit=1 accumulate=1") == "argument");
}

TEST_CASE("busy: a sequence in an open step refuses fork, truncate, evict, destroy and another step, and others do not") {
    Session session(shape + "int4");
    for (const char* line : {"seq a", "seq b", "begin t a:3"})
        session.ok(line);
    for (const char* line : {"fork c a length=0", "truncate a length=0", "evict a budget=10", "keep a positions=0", "destroy a",
                             "begin u a:1", "begin u b:1 a:1", "prompt a end=5", "read a"})
        CHECK_MESSAGE(session.status(line) == "busy", line);
    CHECK(session.number("length a") == 0);
    session.feed("b", 10, 10);
    session.ok("abort t");
    session.ok("destroy a");
}

TEST_CASE("order: append once per layer, attend after append, commit after every append, nothing after the end") {
    Session session(shape + "int4");
    session.ok("seq a");
    session.ok("begin t a:3");
    CHECK(session.status("attend t layer=0") == "order");
    CHECK(session.status("commit t") == "order");
    session.ok("append t layer=1");  // any order of layers
    CHECK(session.status("append t layer=1") == "order");
    CHECK(session.status("commit t") == "order");
    session.ok("append t layer=0");
    session.ok("attend t layer=1");
    session.ok("attend t layer=0");
    session.ok("commit t");
    for (const char* line : {"append t layer=0", "attend t layer=0", "commit t", "abort t"})
        CHECK_MESSAGE(session.status(line) == "handle", line);
}

TEST_CASE("order: tokens that arrive and leave the window in one step are staged for one layer at a time") {
    const std::string codec = short_window("int4", 0, 0);
    for (bool partial : {false, true}) {
        Session session(" layers=3 k_dim=32 codec=" + codec);
        session.ok("seq a");
        session.ok(std::string("begin t a:130") + (partial ? " partial_commit=1" : ""));
        session.ok("append t layer=0 seed=1");
        const Bytes first = session.ok("attend t layer=0 seed=1").bytes;
        CHECK(session.status("append t layer=1 kind=nan") == "nonfinite");
        CHECK(session.ok("attend t layer=0 seed=1").bytes == first);  // what failed took nothing away
        session.ok("append t layer=1 seed=1");
        CHECK(session.status("attend t layer=0 seed=1") == (partial ? "ok" : "order"));
        session.ok("attend t layer=1 seed=1");
        session.ok("append t layer=2 seed=1");
        session.ok("commit t");
    }
    Session small(" layers=2 k_dim=32 codec=" + codec);  // nothing arrives and leaves: all layers stay
    small.ok("seq a");
    small.ok("begin t a:63");
    small.ok("append t layer=0");
    small.ok("append t layer=1");
    small.ok("attend t layer=0");
}

TEST_CASE("not finite: refused at once, nothing changed, and the layer can be appended again") {
    for (const char* kind : {"nan", "inf", "huge"})
        for (const std::string& preset : presets()) {
            CAPTURE(kind);
            CAPTURE(preset);
            const bool fits = preset == "bf16" && std::string(kind) == "huge";
            Session session(shape + short_window(preset, 0, 1)), clean(shape + short_window(preset, 0, 1));
            for (Session* s : {&session, &clean})
                s->ok("seq a data=3"), s->feed("a", 70, 70);
            session.ok("begin step900 a:70");
            CHECK(session.status(std::string("append step900 seed=9 kind=") + kind) == (fits ? "ok" : "nonfinite"));
            if (!fits) {
                CHECK(session.status("attend step900") == "order");
                session.ok("append step900 layer=0 seed=1");
                session.ok("append step900 layer=1 seed=1");
                session.ok("commit step900");
                clean.feed("a", 70, 70);
                CHECK(session.stored("a") == clean.stored("a"));
            }
        }
}

TEST_CASE("saturate: clamps finite numbers to the window's range and still refuses NaN") {
    Session session(" saturate=1 kv_heads=2 k_dim=32 codec=fp16");
    session.ok("seq a");
    session.ok("begin t a:2");
    CHECK(session.status("append t kind=nan") == "nonfinite");
    session.ok("append t kind=huge");
    session.ok("commit t");
    for (float x : session.ok("read a part=keys").values)
        CHECK(std::abs(x) == 65504.0f);
}

TEST_CASE("lost updates: positions that are not the sequence's length are refused") {
    Session session(shape + "int4");
    session.ok("seq a");
    session.ok("begin t a:1 guard=1");
    session.ok("abort t");
    CHECK(session.status("begin t a:1 position_error=1") == "argument");
    CHECK(session.status("begin t a:1 position_error=-1") == "argument");
    CHECK(session.status("begin t a:1 a:1") == "argument");
    CHECK(session.status("begin t a:-1") == "argument");
}

TEST_CASE("empty steps: sequences may add nothing, and a step of nothing commits") {
    Session session(shape + "int4");
    session.ok("seq a");
    session.ok("seq b");
    session.feed("a", 3, 3);
    session.step("a:0 b:2");
    session.ok("begin t a:0");
    session.ok("commit t");
    CHECK(session.number("length a") == 3);
    CHECK(session.number("length b") == 2);
}

// Numbers that 16 bits cannot hold: a device finds them after append and commit have succeeded.
#include "tests/laws/session.h"
#include "tests/reference/plain_device.h"

using kvc_laws::Session;

namespace {

void step_with(Session& session, const std::string& counts, const std::string& kind, const std::string& end = "commit t") {
    session.ok("begin t " + counts);
    session.ok("append t seed=1 kind=" + kind);
    session.ok("attend t seed=1");
    session.ok(end);
}

kvc_status synchronize(Session& session) { return kvc_synchronize(session.replay.cache(), nullptr); }

}  // namespace

TEST_CASE("late: a bad token is found by whoever waits, and then only truncate and destroy serve the sequence") {
    for (const std::string kind : {"nan", "huge"}) {
        CAPTURE(kind);
        Session session(" k_dim=32 codec=int4");
        session.ok("seq a data=1");
        session.ok("seq b data=2");
        session.step("a:9 b:9");
        step_with(session, "a:4", kind);  // begins, appends, attends and commits
        session.step("b:1");
        REQUIRE(synchronize(session) == KVC_OK);
        for (const char* line : {"fork c a length=9", "evict a budget=300", "read a part=keys", "begin u a:1", "publish a n=9",
                                 "length a", "truncate a length=13", "positions a"})
            CHECK_MESSAGE(session.status(line) == "nonfinite", line);
        CHECK(kvc_snapshot_export(session.replay.cache(), nullptr, 0, nullptr, 0, nullptr, nullptr) != KVC_OK);
        CHECK(session.run("read b part=keys").status == KVC_OK);
        session.ok("truncate a length=9");
        CHECK(session.number("length a") == 9);
        session.step("a:3");
        session.ok("read a part=values");
        step_with(session, "a:2", kind);
        CHECK(session.status("read a part=keys") == "nonfinite");  // this call waited itself
        session.ok("destroy a");
        CHECK(session.run("read b part=keys").status == KVC_OK);
    }
}

TEST_CASE("late: forks, cuts and publishing wait first, so that nothing bad gets into another sequence") {
    Session session(" k_dim=32 codec=int4");
    session.ok("seq a data=1");
    session.step("a:9");
    step_with(session, "a:1", "nan");
    SUBCASE("fork") { CHECK(session.status("fork c a length=10") == "nonfinite"); }
    SUBCASE("publish") { CHECK(session.status("publish a n=10") == "nonfinite"); }
    SUBCASE("evict") { CHECK(session.status("evict a budget=300") == "nonfinite"); }
    SUBCASE("truncate") { session.ok("truncate a length=9"); }
    SUBCASE("begin") { session.step("a:1"); }  // does not look at records, and does not wait
    session.ok("destroy a");
    CHECK(session.stats().at(2) == 0);
}

TEST_CASE("late: an aborted step's bad tokens, and rejected ones, leave no trace, whenever the device is asked") {
    for (const bool ask_early : {false, true}) {
        CAPTURE(ask_early);
        Session session(" k_dim=32 codec=int4");
        session.ok("seq a data=1");
        session.step("a:9");
        session.ok("begin t a:4");
        session.ok("append t seed=1 kind=nan");
        if (ask_early) REQUIRE(synchronize(session) == KVC_OK);
        session.ok("abort t");
        REQUIRE(synchronize(session) == KVC_OK);
        session.ok("read a part=keys");
        session.ok("begin t a:4 partial_commit=1");
        session.ok("append t seed=1 kind=nan");
        if (ask_early) REQUIRE(synchronize(session) == KVC_OK);
        session.ok("commit t a:3");  // the last one holds the NaN
        REQUIRE(synchronize(session) == KVC_OK);
        session.ok("read a part=keys");
        // What was found while the step was open is known once it is committed.
        session.ok("begin t a:4 partial_commit=1");
        session.ok("append t seed=1 kind=huge");
        if (ask_early) REQUIRE(synchronize(session) == KVC_OK);
        session.ok("commit t a:2");
        REQUIRE(synchronize(session) == KVC_OK);
        CHECK(session.status("read a part=keys") == "nonfinite");
    }
}

TEST_CASE("late: saturate clamps finite numbers on a device, too, and NaN is found") {
    Session session(" k_dim=32 codec=fp16 saturate=1");
    session.ok("seq a data=1");
    step_with(session, "a:3", "huge");
    session.ok("read a part=keys");
    step_with(session, "a:1", "nan");
    CHECK(session.status("read a part=keys") == "nonfinite");
}

TEST_CASE("late: a sequence that nobody waits for is settled after a while, and waiting is counted") {
    Session session(" k_dim=16 codec=fp16");
    session.ok("seq a data=1");
    const auto waited = [&] {
        kvc_stats stats = {};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_stats_get(session.replay.cache(), &stats, nullptr) == KVC_OK);
        return stats.synchronizations;
    };
    for (int i = 0; i < 1100; i++) {
        session.ok("begin t a:1");
        session.ok("append t seed=1");
        session.ok("commit t");
    }
    CHECK(waited() == 1);
    REQUIRE(synchronize(session) == KVC_OK);
    CHECK(waited() == 2);
    const int64_t before = kvc_plain::newest_device().reads();
    session.ok("read a part=keys");
    CHECK(waited() == 2 + kvc_plain::newest_device().reads() - before);  // nothing was left to wait for but the copies
}

TEST_CASE("late: what acts at a boundary acts on no sequence with a bad token, which is cut and goes on as if it had never come") {
    const std::string codec = " k_dim=32 codec=k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=5,sinks=4";
    for (const std::string acting : {"policy=key_norm:96", "policy=key_diversity:96", "policy=key_norm:96,merge=keys+values",
                                     "policy=h2o:96", "policy=h2o:96,every=commit", "ages"}) {
        CAPTURE(acting);
        const int64_t boundary = acting == "ages" ? 1024 : 192, good = boundary - 10;
        const bool by_mass = acting.find("h2o") != std::string::npos;
        const std::string create = acting == "ages" ? codec + "/int4@512" : " " + acting + codec;
        Session session(create), without(create);
        for (Session* each : {&session, &without}) {
            each->ok("seq a data=1");
            for (int64_t n = 0; n < good; n += 64)
                step_with(*each, "a:" + std::to_string(std::min<int64_t>(64, good - n)), "normal");
        }
        const std::string cut = "truncate a length=" + std::to_string(good);
        step_with(session, "a:10", "nan");  // up to the boundary
        CHECK(session.status("begin t a:1") == "nonfinite");
        CHECK(session.status("positions a") == "nonfinite");
        // A policy that scores attention can be cut exactly nowhere below the last commit.
        CHECK(session.status(cut) == (by_mass ? "range" : "ok"));
        if (by_mass) session.ok(cut + " cut=inexact");
        CHECK(session.ok("positions a").numbers == without.ok("positions a").numbers);
        CHECK(session.ok("rungs a").numbers == without.ok("rungs a").numbers);
        CHECK(session.run("read a part=keys").values == without.run("read a part=keys").values);
        session.step("a:10");
        session.ok("read a part=keys");
    }
}

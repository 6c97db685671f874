// Law: where a sliding window is shorter than the residual window, pages are gone before a query would see their codes: everything that it
// can see is in 16 bits, no codes are held, and memory stops growing.
#include <algorithm>

#include "tests/laws/session.h"
#include "tests/model/model_run.h"

using namespace kvc_laws;

namespace {

constexpr int64_t sinks = 4, window = 100;

std::string shape(int64_t sliding) {
    return " kv_heads=2 q_heads=4 k_dim=32 sliding_window=" + std::to_string(sliding) + " codec=" + short_window("int4", window, sinks);
}

}  // namespace

TEST_CASE("short sliding window: answers are the model's, at every length of step, after cuts and after aborts") {
    for (int64_t sliding : {1, 17, 63, 64, 65, 99, 100, 101, 130})
        for (const std::string& target : targets()) {
            CAPTURE(sliding);
            CAPTURE(target);
            std::string script = "create growth=1" + shape(sliding) + "\nseq a data=4\n";
            int64_t step = 0;
            for (int64_t tokens : {1, 3, 64, 330, 1, 100, 63, 65}) {
                const std::string t = "t" + std::to_string(++step);
                script += "begin " + t + " a:" + std::to_string(tokens) + "\nappend " + t + " seed=1\nattend " + t +
                          " seed=2\nattend " + t + " seed=3 sliding_window=1\n" + (tokens == 100 ? "abort " : "commit ") + t +
                          "\npositions a\nfloor a\nread a part=keys\nread a head=1 part=values\ncodes a\nstats\n";
            }
            script +=
                "truncate a length=520\nfork b a length=520\nbegin u b:70\nappend u seed=5\nattend u seed=6\ncommit u\n"
                "positions b\nread b part=values\n";
            const kvc_scripts::Comparison result = kvc_scripts::compare(kvc_scripts::parse(script), {target, 0});
            CHECK_MESSAGE(result.fault.empty(), result.fault);
        }
}

TEST_CASE("short sliding window: no codes are held, and a sequence holds no more than the window's pages") {
    for (int64_t sliding : {1, 17, 64, 99, 100}) {
        CAPTURE(sliding);
        Session session(shape(sliding));
        session.ok("seq a");
        int64_t most = 0;
        for (int64_t length = 0; length < 900; length += 37) {
            session.feed("a", 37, 37);
            const std::vector<int64_t> stats = session.stats();
            CHECK(stats[5] == 0);  // bytes of codes
            CHECK(session.number("live a") <= sinks + sliding - 1 + 64);
            if (length < 300) most = std::max(most, stats[2]);
            CHECK(stats[2] <= most);
        }
        const int64_t length = session.number("length a");
        CHECK(session.stats()[2] == session.ok("plan tokens=" + std::to_string(length)).numbers[2]);
    }
}

TEST_CASE("short sliding window: no budget takes a token, because all that is left is in the residual window") {
    Session session(shape(17));
    session.ok("seq a");
    session.feed("a", 400, 90);
    const Bytes before = session.stored("a");
    const int64_t live = session.number("live a");
    for (int64_t recent : {0, 1, 17, 64, 100, 400}) {
        CAPTURE(recent);
        const std::string words = " recent=" + std::to_string(recent) + " budget=";
        CHECK(session.ok("evict a" + words + std::to_string(live)).numbers[0] == 0);
        CHECK(session.status("evict a" + words + std::to_string(live - 1)) == "argument");
        CHECK(session.status("evict a scores=3" + words + std::to_string(live - 1)) == "argument");
    }
    CHECK(session.ok("keep a positions=399").numbers[0] == 0);
    CHECK(session.stored("a") == before);
}

TEST_CASE("short sliding window: a cut at the sinks begins anew, and what comes again is held again") {
    for (int64_t length : {0, 2, 4})
        for (const std::string& codec : {short_window("int4", 5, sinks), short_window("fp16", 5, sinks)}) {
            CAPTURE(length);
            CAPTURE(codec);
            const std::string script =
                "create growth=1 k_dim=32 sliding_window=100 codec=" + codec +
                "\nseq a\nbegin t a:170\nappend t\ncommit t\ntruncate a cut=inexact length=" + std::to_string(length) +
                "\nbegin u a:128\nappend u seed=2\ncommit u\nfloor a\nread a\nfork b a length=" + std::to_string(length + 128) +
                "\nevict b budget=70\npositions b\n";
            const kvc_scripts::Comparison result = kvc_scripts::compare(kvc_scripts::parse(script), {targets().back(), 0});
            CHECK_MESSAGE(result.fault.empty(), result.fault);
        }
}

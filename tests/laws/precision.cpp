// Laws of kvc_step_down: what a page becomes, which pages go first, and that nobody else notices.
#include <algorithm>

#include "tests/laws/precision_session.h"

using namespace kvc_laws;

namespace {

const std::string one_layer = " layers=1 kv_heads=2 q_heads=4 k_dim=64 v_dim=64 codec=";
const std::string two_layers = " layers=2 kv_heads=2 q_heads=4 k_dim=64 v_dim=32 codec=";
const std::string int8_window = "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=10,sinks=3";

const std::vector<std::string> ladders = {int8_window + "/int4/int2", "k=f16,v=f16,window=10,sinks=3/int8/int4/int2",
                                          "k=f16,v=f16,window=0,sinks=0/kivi4/kivi2",
                                          "k=int8.tok,v=int8.tok,window=0,sinks=0/k=int4.tok,v=int2.tok",
                                          "k=int4.tok.rot,v=int8.tok.rot.sym,window=70,sinks=4/k=int4.tok.rot,v=int4.tok.rot.sym"};

std::vector<float> values_of(Session& session, const std::string& name, const char* part, int layer = 0, int head = 0) {
    return session.ok("read " + head_words(name, layer, head) + " part=" + part).values;
}

}  // namespace

TEST_CASE("precision: with a ladder that nobody steps down, outputs and bytes are those of its first rung") {
    for (const std::string& target : targets()) {
        CAPTURE(target);
        Session plain(two_layers + int8_window, {target, 0}), ladder(two_layers + int8_window + "/int4/int2", {target, 0});
        for (Session* session : {&plain, &ladder})
            session->ok("seq a data=3 prompt_length=200");
        CHECK(ladder.feed("a", 300, 60) == plain.feed("a", 300, 60));
        CHECK(ladder.stored("a") == plain.stored("a"));
        CHECK(ladder.stats()[2] == plain.stats()[2]);
    }
}

TEST_CASE("precision: fp16 pages that step down become what the lower codec would have stored") {
    for (const char* lower : {"int8", "int4", "int2", "kivi4"}) {
        CAPTURE(lower);
        Session plain(two_layers + short_window(lower, 10, 3));
        Session ladder(two_layers + "k=f16,v=f16,window=10,sinks=3/" + lower);
        for (Session* session : {&plain, &ladder}) {
            session->ok("seq a data=3");
            session->feed("a", 300, 60);
        }
        CHECK(values_of(ladder, "a", "keys") != values_of(plain, "a", "keys"));
        const SteppedDown done = stepped(ladder, "a");
        CHECK(done.report.pages == 4 * 4);
        CHECK(done.report.tokens_requantized == 4 * 4 * 64);
        CHECK(record_bytes_of(ladder, "a") == record_bytes_of(plain, "a"));
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head)
                for (const char* part : {"keys", "values"})
                    CHECK(values_of(ladder, "a", part, layer, head) == values_of(plain, "a", part, layer, head));
    }
}

TEST_CASE("precision: after an exact cut of an fp16 ladder the window stays in 16 bits, as in a sequence that never was longer") {
    for (const char* window : {"window=64,sinks=4", "window=10,sinks=3", "window=0,sinks=0"})
        for (const int64_t length : thinned<int64_t>({401, 448, 460, 511, 519})) {
            CAPTURE(window);
            CAPTURE(length);
            const std::string codec = std::string("k=f16,v=f16,") + window + "/int8/int4";
            Session cut(two_layers + codec), fresh(two_layers + codec);
            for (Session* session : {&cut, &fresh})
                session->ok("seq a data=3");
            cut.feed("a", 520, 60);
            fresh.feed("a", length, 60);
            REQUIRE(cut.number("floor a") <= length);
            cut.ok("truncate a length=" + std::to_string(length));
            for (Session* session : {&cut, &fresh})
                stepped(*session, "a", {2});
            CHECK(rungs_of(cut, "a", 0) == rungs_of(fresh, "a", 0));
            CHECK(cut.stored("a") == fresh.stored("a"));
            CHECK(cut.feed("a", 130, 64) == fresh.feed("a", 130, 64));
            for (Session* session : {&cut, &fresh})  // every third token stays: sparse pages of both rungs are gathered
                session->ok("evict a budget=" + std::to_string(length / 3) + " scores=7");
            CHECK(rungs_of(cut, "a", 0) == rungs_of(fresh, "a", 0));
            CHECK(cut.stored("a") == fresh.stored("a"));
        }
}

TEST_CASE("precision: attention over mixed pages is the formula over what is read back") {
    for (const std::string& target : targets())
        for (const std::string& codec : ladders)
            for (const int64_t recent : {0, 100, 160}) {
                CAPTURE(target);
                CAPTURE(codec);
                CAPTURE(recent);
                if (!is_served(one_layer + codec)) continue;
                Session session(one_layer + codec, {target, 0});
                session.ok("seq a data=3");
                session.feed("a", 230, 64);
                CHECK(attention_error(session, "a", 2, 2, 64, true, 5) <= 1e-3);
                const int64_t before = record_bytes_of(session, "a");
                const SteppedDown first = stepped(session, "a", {1, 0, 0, 0, recent});
                CHECK(first.report.pages > 0);
                CHECK(attention_error(session, "a", 2, 2, 64, true, 6) <= 1e-3);
                stepped(session, "a", {0, 0, 0, 0, recent + 64});
                CHECK(attention_error(session, "a", 2, 2, 64, true, 7) <= 1e-3);
                CHECK(record_bytes_of(session, "a") < before);
                check_bytes(session, "a");
                session.feed("a", 130, 64);
                CHECK(attention_error(session, "a", 2, 2, 64, true, 8) <= 1e-3);
            }
}

TEST_CASE("precision: the report, the statistics and the arena agree, and the floor rises") {
    Session session(two_layers + int8_window + "/int4/int2");
    session.ok("seq a data=3");
    session.feed("a", 300, 60);
    const std::vector<int64_t> before = session.stats();
    const SteppedDown done = stepped(session, "a", {1, 1, 2});
    const std::vector<int64_t> after = session.stats();
    CHECK(done.report.pages == 2 * 4);  // of one layer
    CHECK(done.report.bytes_freed == before[2] - after[2]);
    CHECK(done.report.bytes_freed > 0);
    CHECK(done.report.record_bytes == after[2]);
    CHECK(after[13] - before[13] == done.report.tokens_requantized);
    CHECK(session.number("floor a") == 300);
    CHECK(session.status("truncate a length=299") == "range");
    const std::vector<int64_t> untouched = rungs_of(session, "a", 0), rungs = rungs_of(session, "a", 1);
    CHECK(std::count(untouched.begin(), untouched.end(), 1) == 0);
    CHECK(std::count(rungs.begin(), rungs.end(), 1) == 256);
    CHECK(std::count(rungs.begin(), rungs.end(), -1) == 44);
    const Bytes stored = session.stored("a");
    CHECK(stepped(session, "a", {1}).report.pages == 2 * 4);
    CHECK(stepped(session, "a", {1}).report.pages == 0);
    CHECK(session.stored("a") != stored);
    session.ok("truncate a length=150 cut=inexact");  // through a page that was stepped down
    CHECK(positions_of(session, "a").size() == 150);
    check_bytes(session, "a");
    session.feed("a", 200, 50);
    check_bytes(session, "a");
    session.ok("destroy a");
    CHECK(session.stats()[2] == 0);
}

TEST_CASE("precision: byte budgets are met, oldest pages first and rung by rung, and one that suffices changes nothing") {
    Session session(two_layers + int8_window + "/int4/int2");
    session.ok("seq a data=3");
    session.feed("a", 500, 60);
    const Bytes stored = session.stored("a");
    const int64_t full = record_bytes_of(session, "a");
    session.ok("fork low a length=500");
    const int64_t least = stepped(session, "low").report.record_bytes;
    CHECK(stepped(session, "a", {0, 0, 0, full}).report.pages == 0);
    CHECK(session.stored("a") == stored);
    CHECK(session.number("floor a") < 500);
    CHECK(step_down(session, "a", {0, 0, 0, least - 1}).status == KVC_E_ARGUMENT);
    CHECK(session.stored("a") == stored);
    for (int64_t budget = full - 1; budget >= least; budget -= 7001) {
        CAPTURE(budget);
        session.ok("fork b a length=500");
        const SteppedDown done = stepped(session, "b", {0, 0, 0, budget});
        CHECK(done.report.record_bytes <= budget);
        CHECK(done.report.record_bytes == record_bytes_of(session, "b"));
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head) {
                std::vector<int64_t> rungs = rungs_of(session, "b", layer, head);
                std::erase(rungs, -1);
                CHECK(std::is_sorted(rungs.rbegin(), rungs.rend()));
                CHECK(rungs.front() - rungs.back() <= 1);
            }
        CHECK(session.stored("a") == stored);
        session.ok("destroy b");
    }
    CHECK(stepped(session, "a", {0, 0, 0, least}).report.record_bytes == least);
}

TEST_CASE("precision: where mass is kept, pages with the least of it go first") {
    Session session(one_layer + int8_window + "/int4");
    session.ok("seq a data=3");
    session.feed("a", 400, 60, "accumulate=1");
    struct Page {
        double mass;
        int head;
        int64_t place;
        bool operator<(const Page& other) const { return mass < other.mass; }
    };
    std::vector<Page> pages;
    for (int head = 0; head < 2; ++head) {
        const std::vector<int64_t> mass = session.ok("mass " + head_words("a", 0, head)).numbers;
        for (int64_t place = 0; place < 6; ++place) {
            double sum = 0;
            for (int64_t t = 0; t < 64; ++t)
                sum += static_cast<double>(mass[static_cast<size_t>(3 + place * 64 + t)]);
            pages.push_back({sum / 64, head, place});
        }
    }
    std::sort(pages.begin(), pages.end());
    const int64_t full = record_bytes_of(session, "a");
    stepped(session, "a", {0, 0, 0, full - 4 * 4096});  // a page loses 4,096 bytes
    for (size_t i = 0; i < pages.size(); ++i) {
        const std::vector<int64_t> rungs = rungs_of(session, "a", 0, pages[i].head);
        CHECK(rungs[static_cast<size_t>(3 + pages[i].place * 64)] == (i < 4 ? 1 : 0));
    }
}

TEST_CASE("precision: attention mass over mixed pages goes to the tokens that earned it") {
    for (const std::string& target : targets()) {
        CAPTURE(target);
        Session plain(one_layer + int8_window, {target, 0}), mixed(one_layer + int8_window + "/int4", {target, 0});
        for (Session* session : {&plain, &mixed}) {
            session->ok("seq a data=3");
            session->feed("a", 400, 64);
        }
        stepped(mixed, "a", {0, 0, 0, 0, 190});
        for (Session* session : {&plain, &mixed})
            session->feed("a", 20, 20, "accumulate=1");
        for (int head = 0; head < 2; ++head) {
            const std::string words = "mass " + head_words("a", 0, head);
            const std::vector<int64_t> expected = plain.ok(words).numbers, got = mixed.ok(words).numbers;
            double total = 0, difference = 0;
            for (size_t i = 0; i < expected.size(); ++i) {
                total += static_cast<double>(expected[i]);
                difference += std::fabs(static_cast<double>(expected[i] - got[i]));
            }
            CHECK(std::fabs(static_cast<double>(sum_of(got)) / total - 1) <= 1e-4);
            CHECK(difference / total > 0);
            CHECK(difference / total <= 0.1);
        }
    }
}

TEST_CASE("precision: forks keep every bit, and threads and targets change none") {
    Bytes expected;
    for (const std::string& target : targets())
        for (const int64_t threads : {0, 2}) {
            Session session(two_layers + int8_window + "/int4/int2", {target, threads});
            session.ok("seq a data=3");
            session.feed("a", 300, 60);
            const Bytes stored = session.stored("a");
            session.ok("fork b a length=300");
            const SteppedDown done = stepped(session, "b", {2, 0, 1});
            CHECK(done.report.bytes_freed < 0);  // private copies; the old pages live on
            stepped(session, "b", {1});
            CHECK(session.stored("a") == stored);
            session.ok("fork c b length=300");
            CHECK(session.stored("c") == session.stored("b"));
            CHECK(session.feed("c", 40, 7) == session.feed("b", 40, 40));
            CHECK(session.stored("c") == session.stored("b"));
            if (expected.empty()) expected = session.stored("b");
            CHECK(session.stored("b") == expected);
            session.ok("destroy a"), session.ok("destroy b"), session.ok("destroy c");
            CHECK(session.stats()[2] == 0);
        }
}

TEST_CASE("precision: a full arena steps down in place and goes on") {
    for (const std::string& codec : {int8_window + "/int4", ladders[1]}) {
        CAPTURE(codec);
        Session session(two_layers + codec + " growth=0 arena_bytes=1048576");
        session.ok("seq a data=3");
        int64_t tokens = 0;
        while (session.status("begin t a:64") == "ok") {
            session.ok("abort t");
            session.feed("a", 64, 64);
            tokens += 64;
        }
        CHECK(stepped(session, "a", {1}).report.pages > 0);
        check_bytes(session, "a");
        session.feed("a", tokens / 6, 64);
        // A sibling that shares everything needs private copies, for which there is no room.
        const std::string length = std::to_string(session.number("length a"));
        session.ok("fork b a length=" + length), session.ok("fork c a length=" + length);
        while (session.status("begin t b:1") == "ok") {
            session.ok("abort t");
            session.feed("b", 1, 1);
        }
        const Bytes stored = session.stored("c");
        CHECK(step_down(session, "c", {1}).status == KVC_E_NO_MEMORY);
        CHECK(session.stored("c") == stored);
        session.ok("destroy a"), session.ok("destroy b");
        stepped(session, "c", {1});
        CHECK(session.stored("c") != stored);
    }
}

TEST_CASE("precision: eviction and merging work on mixed pages") {
    for (const std::string& codec : ladders) {
        CAPTURE(codec);
        if (!is_served(one_layer + codec)) continue;
        Session session(one_layer + codec);
        session.ok("seq a data=3");
        session.feed("a", 400, 64);
        stepped(session, "a", {1, 0, 0, 0, 150});
        const std::vector<int64_t> before = rungs_of(session, "a");
        session.ok("evict a budget=220 scores=5");
        CHECK(positions_of(session, "a").size() == 220);
        CHECK(attention_error(session, "a", 2, 2, 64, true, 9) <= 1e-3);
        const std::vector<int64_t> after = rungs_of(session, "a");
        CHECK(std::count(before.begin(), before.end(), 1) > 0);
        for (const int64_t rung : after)
            CHECK(rung <= 1);
        stepped(session, "a");
        CHECK(attention_error(session, "a", 2, 2, 64, true, 10) <= 1e-3);
        check_bytes(session, "a");
        std::vector<int32_t> clusters = unmerged(400, 2);
        const std::vector<int64_t> kept = positions_of(session, "a");
        for (size_t i = 20; i < 60; i += 2)
            clusters[static_cast<size_t>(kept[i])] = static_cast<int32_t>(kept[i + 1]);
        REQUIRE(merge(session, "a", clusters).status == KVC_OK);
        CHECK(attention_error(session, "a", 2, 2, 64, true, 11) <= 1e-3);
        check_bytes(session, "a");
        session.feed("a", 100, 64);
        CHECK(attention_error(session, "a", 2, 2, 64, true, 12) <= 1e-3);
    }
}

TEST_CASE("precision: published prefixes keep the form that they had") {
    Session session(two_layers + int8_window + "/int4");
    session.ok("seq a data=3");
    session.feed("a", 300, 60);
    stepped(session, "a", {0, 0, 0, 0, 150});
    session.ok("publish a text=1 n=300");
    const Bytes stored = session.stored("a");
    stepped(session, "a");
    session.ok("lookup b text=1 n=301 data=3");
    CHECK(session.number("length b") == 300);
    CHECK(session.stored("b") == stored);
    CHECK(session.stored("a") != stored);
}

TEST_CASE("precision: misuse is refused by type and changes nothing") {
    Session session(two_layers + int8_window + "/int4"), plain(two_layers + int8_window);
    for (Session* each : {&session, &plain}) {
        each->ok("seq a data=3");
        each->feed("a", 300, 60);
    }
    const Bytes stored = session.stored("a");
    CHECK(step_down(plain, "a").status == KVC_E_UNSUPPORTED);
    CHECK(step_down(session, "a", {2}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "a", {-1}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "a", {1, 0, 3}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "a", {1, 1, 1}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "a", {1, -1, 1}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "a", {1, 0, 0, -1}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "a", {1, 0, 0, 0, -1}).status == KVC_E_ARGUMENT);
    CHECK(step_down(session, "nobody").status == KVC_E_HANDLE);
    session.open("t", "a:1");
    CHECK(step_down(session, "a").status == KVC_E_BUSY);
    session.ok("abort t");
    CHECK(session.stored("a") == stored);
    CHECK(kvc_step_down(nullptr, 0, nullptr, nullptr, nullptr) == KVC_E_HANDLE);
    kvc_step_down_report unsized{};
    CHECK(kvc_step_down(session.replay.cache(), session.replay.handle_of("a"), nullptr, &unsized, nullptr) == KVC_E_ARGUMENT);
    int64_t rung = 0;
    CHECK(kvc_seq_read_rungs(session.replay.cache(), session.replay.handle_of("a"), 0, 0, &rung, 1, nullptr, nullptr) ==
          KVC_E_ARGUMENT);
    CHECK(session.stored("a") == stored);
    CHECK(kvc_step_down(session.replay.cache(), session.replay.handle_of("a"), nullptr, nullptr, nullptr) == KVC_OK);
    CHECK(session.stored("a") != stored);
}

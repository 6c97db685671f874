// Law: a truncate or fork at or above the exact floor equals "never happened", bit for bit; below it is refused unless asked for.
#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";

std::string at(const std::string& line, int64_t length) { return line + " length=" + std::to_string(length); }

// The sequence as if it had only ever had so many tokens.
Bytes never_more(const std::string& create, int64_t tokens, int64_t more, Bytes* out_outputs) {
    Session session(create);
    session.ok("seq a data=3");
    session.feed("a", tokens, tokens);
    *out_outputs = session.feed("a", more, more);
    return session.stored("a");
}

}  // namespace

TEST_CASE("exact floor: truncate at the floor and above equals never happened, also for all that follows") {
    for (const std::string& preset : {std::string("fp16"), std::string("int4"), std::string("kivi2")})
        for (int64_t spare : {0, 1}) {
            CAPTURE(preset);
            CAPTURE(spare);
            const std::string create = " spare_pages=" + std::to_string(spare) + shape + short_window(preset, 10, 3);
            Session probe(create);
            probe.ok("seq a data=3");
            probe.feed("a", 290, 97);
            const int64_t floor = probe.number("floor a");
            for (const int64_t length : thinned({floor, int64_t{290}, int64_t{289}, floor + 1})) {
                CAPTURE(length);
                Session session(create);
                session.ok("seq a data=3");
                session.feed("a", 290, 97);
                session.ok(at("truncate a", length));
                CHECK(session.number("length a") == length);
                if (length == 0) continue;
                const Bytes outputs = session.feed("a", 80, 80);
                Bytes expected_outputs;
                CHECK(session.stored("a") == never_more(create, length, 80, &expected_outputs));
                CHECK(outputs == expected_outputs);
            }
        }
}

TEST_CASE("exact floor: one token below it truncate and fork are refused, change nothing, and say so") {
    for (const std::string& preset : {std::string("int8"), std::string("int4"), std::string("k3v2"), std::string("kivi4")})
        for (int64_t spare : {0, 1}) {
            CAPTURE(preset);
            Session session(" spare_pages=" + std::to_string(spare) + shape + short_window(preset, 10, 3));
            session.ok("seq a data=3");
            session.feed("a", 290, 290);
            const int64_t floor = session.number("floor a");
            // h + W, with h = f(290) - 64 x, f(n) = S + 64 floor((n - S - W) / 64)
            CHECK(floor == 3 + 64 * ((290 - 3 - 10) / 64 - spare) + 10);
            const Bytes before = session.stored("a");
            CHECK(session.status(at("truncate a", floor - 1)) == "range");
            CHECK(session.run(at("truncate a", floor - 1)).message.find(std::to_string(floor)) != std::string::npos);
            CHECK(session.status(at("fork b a", floor - 1)) == "range");
            CHECK(session.status(at("truncate a", 291)) == "range");
            CHECK(session.status(at("fork b a", -1)) == "range");
            CHECK(session.stored("a") == before);
            session.ok(at("truncate a", floor - 1) + " cut=inexact");
            CHECK(session.number("length a") == floor - 1);
        }
}

TEST_CASE("exact floor: a rollback of 64 x tokens is exact with x spare pages, whatever the length") {
    for (int64_t spare : {1, 2})
        for (int64_t tokens : {64, 128, 200, 255, 256, 257, 300}) {
            CAPTURE(tokens);
            const std::string create = " spare_pages=" + std::to_string(spare) + shape + short_window("int4", 5, 2);
            Session session(create);
            session.ok("seq a data=3");
            session.feed("a", tokens, 50);
            CHECK(session.number("floor a") <= std::max<int64_t>(0, tokens - 64 * spare));
        }
}

TEST_CASE("exact floor: 0 for 16-bit codecs, and before any page is coded") {
    Session half(shape + "fp16"), fresh(shape + "int4");
    for (Session* session : {&half, &fresh})
        session->ok("seq a"), session->feed("a", 195, 195);
    CHECK(half.number("floor a") == 0);
    CHECK(fresh.number("floor a") == 0);
    half.ok(at("truncate a", 0));
    CHECK(half.number("length a") == 0);
    CHECK(half.ok("positions a").numbers.empty());
}

TEST_CASE("fork: at the floor and above equals never happened, and leaves its source as it was") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        const std::string create = shape + short_window(preset, 10, 3);
        Session session(create);
        session.ok("seq a data=3");
        session.feed("a", 290, 290);
        const Bytes before = session.stored("a");
        const int64_t floor = session.number("floor a");
        for (int64_t length : {std::max<int64_t>(floor, 1), floor + 1, int64_t{290}}) {
            CAPTURE(length);
            const std::string name = "b" + std::to_string(length);
            session.ok(at("fork " + name + " a", length));
            const Bytes outputs = session.feed(name, 80, 80);
            Bytes expected_outputs;
            CHECK(session.stored(name) == never_more(create, length, 80, &expected_outputs));
            CHECK(outputs == expected_outputs);
            CHECK(session.stored("a") == before);
        }
    }
}

TEST_CASE("fork: siblings do not see what the others append, truncate, evict or end") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 300);
    session.ok(at("fork b a", 300) + " data=8");
    session.ok(at("fork c a", 290));
    const Bytes c = session.stored("c");
    session.feed("b", 70, 70);
    session.ok("evict a budget=100 scores=4");
    session.ok(at("truncate b", 370));
    session.ok("destroy b");
    CHECK(session.stored("c") == c);
    session.ok("destroy a");
    CHECK(session.stored("c") == c);
    session.ok("destroy c");
    const std::vector<int64_t> stats = session.stats();
    CHECK(stats[2] == 0);  // no record is left behind
}

TEST_CASE("inexact cut: whole pages stay as they are, and the rest goes on from the cut") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 300);
    const auto before = session.ok("read a layer=1 head=1 part=keys n=131").values;  // sinks and two pages
    session.ok(at("truncate a", 150) + " cut=inexact");
    CHECK(session.ok("read a layer=1 head=1 part=keys n=131").values == before);
    CHECK(session.number("length a") == 150);
    CHECK(session.number("floor a") == 150);
    session.feed("a", 100, 33);
    CHECK(session.number("length a") == 250);
    CHECK(session.ok("read a layer=1 head=1 part=keys n=131").values == before);
}

TEST_CASE("cut: behind an inexact cut through what was evicted, forks and exact cuts keep all that is held") {
    for (const std::string& preset : presets())
        for (const int64_t spare : {0, 2})
            for (const int64_t cut : thinned<int64_t>({154, 100, 200, 261, 330, 259})) {
                CAPTURE(preset);
                CAPTURE(spare);
                CAPTURE(cut);
                const std::string create = shape + short_window(preset, 70, 3) + " spare_pages=" + std::to_string(spare);
                Session longer(create), shorter(create);
                for (Session* each : {&longer, &shorter}) {
                    each->ok("seq a data=3");
                    each->feed("a", 400, 100);
                    each->ok("evict a budget=180 scores=5");  // scattered: repacked pages hold tokens of pages above them
                    each->ok(at("truncate a", cut) + " cut=inexact");
                }
                for (const int64_t more : thinned<int64_t>({0, 14, 64, 150})) {
                    const int64_t length = cut + more;
                    shorter.feed("a", length - shorter.number("length a"), 64);
                    longer.feed("a", length + 5 - longer.number("length a"), 64);
                    const Bytes held = shorter.stored("a");
                    shorter.ok(at("fork b a", length));
                    CHECK(shorter.stored("b") == held);
                    if (length >= longer.number("floor a")) {
                        longer.ok(at("fork b a", length));
                        CHECK(longer.stored("b") == held);
                        CHECK(longer.feed("b", 30, 30) == shorter.feed("b", 30, 30));
                        longer.ok("destroy b");
                    }
                    shorter.ok("destroy b");
                }
            }
}

TEST_CASE("cut: lengths count from the sequence's first position") {
    Session session(shape + "int4");
    session.ok("seq a first_position=1000000");
    session.feed("a", 20, 20);
    CHECK(session.number("length a") == 1000020);
    CHECK(session.status(at("truncate a", 999999)) == "range");
    session.ok(at("truncate a", 1000007));
    CHECK(session.ok("positions a").numbers.back() == 1000006);
}

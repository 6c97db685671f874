// Law: a prefix hit of L tokens equals a fresh run of L tokens, bit for bit, in what is stored and in all that follows; L is what the
// lengths, the tokens in common and the exact floor allow, and never more.
#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=6 k_dim=32 codec=";

std::string words(std::initializer_list<std::pair<const char*, int64_t>> numbers) {
    std::string text;
    for (const auto& [key, value] : numbers)
        text += std::string(" ") + key + "=" + std::to_string(value);
    return text;
}

// Publishes the first n tokens of `name`, whose text and data are 3.
std::string publish(const std::string& name, int64_t n) { return "publish " + name + words({{"text", 3}, {"n", n}}); }

// A prompt of q tokens of which the first p are of text 3.
std::string prompt(int64_t p, int64_t q) { return words({{"text", 3}, {"other", 4}, {"turn", p}, {"n", q}, {"data", 3}}); }

struct Hit {
    int64_t tokens, shared;
};

Hit look_up(Session& session, const std::string& name, int64_t p, int64_t q, const std::string& more = "") {
    const std::vector<int64_t> numbers = session.ok("lookup " + name + prompt(p, q) + more).numbers;
    CHECK(session.number("length " + name) == numbers[0]);
    return {numbers[0], numbers[1]};
}

// What a run that never knew of any index stores after L tokens and after `more` others, and what the others gave.
struct Fresh {
    Bytes stored, outputs, later;

    Fresh(const std::string& create, int64_t length, int64_t more, const std::string& options) {
        Session session(create);
        session.ok("seq f data=3" + options);
        session.feed("f", length, 70);
        stored = session.stored("f");
        outputs = session.feed("f", more, 50);
        later = session.stored("f");
    }
};

void expect_fresh(Session& session, const std::string& name, const Fresh& fresh, int64_t more) {
    CHECK(session.stored(name) == fresh.stored);
    CHECK(session.feed(name, more, more) == fresh.outputs);
    CHECK(session.stored(name) == fresh.later);
}

}  // namespace

TEST_CASE("prefix: a hit equals a fresh run, for every preset, at the boundaries of sinks and pages, in both kernel classes") {
    for (const std::string& preset : presets())
        for (const std::string extra : {"", " spare_pages=1", " sliding_window=100"})
            for (int64_t n : {1, 3, 4, 66, 67, 68, 80, 290}) {
                CAPTURE(preset);
                CAPTURE(extra);
                CAPTURE(n);
                const std::string create = extra + shape + short_window(preset, 10, 3);
                const std::string options = n % 2 ? "" : " prompt_length=" + std::to_string(n + 60);
                Session session(create);
                session.ok("seq a data=3" + options);
                session.feed("a", n, 97);
                session.ok(publish("a", n));
                session.feed("a", 100, 100);  // the source goes on, on its own
                const Hit hit = look_up(session, "b", n, n + 90, options);
                CHECK(hit.tokens == n);
                CHECK(hit.shared == n);
                expect_fresh(session, "b", Fresh(create, n, 90, options), 90);
                session.ok("destroy a");
                CHECK(look_up(session, "c", n, n + 90, options).tokens == n);  // the entry outlives its source, and what b did
                expect_fresh(session, "c", Fresh(create, n, 90, options), 90);
            }
}

TEST_CASE("prefix: L is the least of the entry's length, what is shared, and the prompt less one, from the exact floor on") {
    for (const std::string& codec : {std::string("fp16"), short_window("int4", 10, 3), short_window("kivi2", 70, 0)})
        for (int64_t n : {3, 67, 68, 200, 290}) {
            const std::string create = shape + codec;
            Session session(create);
            session.ok("seq a data=3");
            session.feed("a", n, 97);
            const int64_t floor = session.number("floor a");
            session.ok(publish("a", n));
            session.feed("a", 64, 64);
            int64_t names = 0;
            for (int64_t p : {int64_t{0}, int64_t{1}, floor - 1, floor, floor + 1, int64_t{63}, int64_t{64}, n - 1, n, n + 40})
                for (int64_t q : {int64_t{1}, floor, floor + 1, floor + 2, n, n + 1, n + 41, int64_t{128}}) {
                    if (p < 0 || q < std::max<int64_t>(p, 1)) continue;
                    CAPTURE(codec);
                    CAPTURE(n);
                    CAPTURE(p);
                    CAPTURE(q);
                    const int64_t most = std::min({n, p, q - 1}), expected = most >= floor ? most : 0;
                    const std::string name = "b" + std::to_string(names++);
                    const Hit hit = look_up(session, name, p, q);
                    CHECK(hit.tokens == expected);
                    CHECK(hit.shared == std::min({n, p, q}));
                    if (names % 5 == 0 && expected > 0) expect_fresh(session, name, Fresh(create, expected, 70, ""), 70);
                    session.ok("destroy " + name);
                }
        }
}

TEST_CASE("prefix: of several entries the longest that may be cut there is taken, otherwise a shorter one") {
    const std::string create = shape + short_window("int4", 10, 3);
    Session session(create);
    session.ok("seq a data=3");
    for (int64_t n : {70, 150, 300}) {
        session.feed("a", n - session.number("length a"), 64);
        session.ok(publish("a", n));
    }
    for (const auto& [p, tokens] : std::vector<std::pair<int64_t, int64_t>>{
             {299, 299}, {269, 269}, {268, 150}, {149, 149}, {140, 70}, {141, 141}, {70, 70}, {13, 13}, {12, 12}}) {
        const std::string name = "b" + std::to_string(p);
        const Hit hit = look_up(session, name, p, 400);
        CHECK_MESSAGE(hit.tokens == tokens, "p = " << p);
        CHECK(hit.shared == p);
        expect_fresh(session, name, Fresh(create, tokens, 40, ""), 40);
    }
    const std::vector<int64_t> stats = session.ok("prefix_stats").numbers;
    CHECK(stats[0] == 3);
    CHECK(stats[1] == 520);
    CHECK(stats[4] == 9);
    CHECK(stats[5] == 0);
}

TEST_CASE("prefix: nothing is shared with another salt, first position, or a prompt whose first token differs") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3 first_position=5");
    session.feed("a", 200, 64);
    session.ok(publish("a", 200) + " salt=alice");
    CHECK(session.ok("lookup b" + prompt(200, 300) + " salt=alice first_position=5").numbers == std::vector<int64_t>(2, 200));
    const std::vector<int64_t> none = {0, 0};
    for (const char* other : {" salt=bob first_position=5", " first_position=5", " salt=alic first_position=5", " salt=alice",
                              " salt=alice first_position=6"}) {
        const std::vector<int64_t> numbers = session.ok("lookup c" + prompt(200, 300) + other).numbers;
        CHECK_MESSAGE(numbers == none, other);
        CHECK(session.ok("positions c").numbers.empty());
    }
    CHECK(session.ok("lookup c" + prompt(0, 300) + " salt=alice first_position=5").numbers == none);
}

TEST_CASE("prefix: an entry is its own: source, hits and siblings may grow, evict, be cut and end, and it stays what it was") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        const std::string create = shape + short_window(preset, 10, 3);
        Session session(create);
        session.ok("seq a data=3");
        session.feed("a", 300, 97);
        session.ok(publish("a", 300));
        session.ok("evict a budget=100 scores=4");
        look_up(session, "b", 300, 301);
        session.ok("evict b budget=60 scores=5");
        look_up(session, "c", 300, 301);
        session.ok("truncate c length=290");
        session.ok("destroy b");
        session.ok("destroy a");
        look_up(session, "d", 300, 400);
        expect_fresh(session, "d", Fresh(create, 300, 90, ""), 90);
        session.ok("prefix_clear");
        session.ok("destroy c");
        session.ok("destroy d");
        CHECK(session.stats()[2] == 0);  // no record is left behind
        CHECK(session.stats()[1] == 0);
    }
}

TEST_CASE("prefix: what has been evicted before publishing is a hit at its full length alone, and goes on as its source does") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, 10, 3));
        session.ok("seq a data=3");
        session.feed("a", 300, 97);
        session.ok("evict a budget=120 scores=4");
        session.ok(publish("a", 300));
        CHECK(look_up(session, "none", 299, 400).tokens == 0);
        CHECK(look_up(session, "b", 300, 400).tokens == 300);
        CHECK(session.stored("b") == session.stored("a"));
        const Bytes outputs = session.feed("b", 90, 90);
        CHECK(session.feed("a", 90, 33) == outputs);
        CHECK(session.stored("b") == session.stored("a"));
    }
}

TEST_CASE("prefix: under every policy a hit at the entry's length goes on as its source does") {
    for (const std::string& policy : policies(120))
        for (const std::string& codec : {std::string("fp16"), short_window("int4", 10, 4)})
            for (int64_t n : {100, 128, 200, 330}) {
                CAPTURE(policy);
                CAPTURE(codec);
                CAPTURE(n);
                Session session(policy_shape + codec + " policy=" + policy);
                session.ok("seq a data=3");
                feed(session, "a", n, 50);
                session.ok(publish("a", n));
                CHECK(look_up(session, "b", n, n + 50).tokens == n);
                CHECK(session.stored("b") == session.stored("a"));
                const Bytes outputs = feed(session, "b", 150, 64);
                CHECK(feed(session, "a", 150, 64) == outputs);
                CHECK(session.stored("b") == session.stored("a"));
            }
}

TEST_CASE("prefix: entries of other budgets are no hits") {
    const std::string create = policy_shape + short_window("int4", 10, 4) + " policy=h2o:60%";
    Session session(create);
    session.ok("seq a data=3 prompt_length=400");
    feed(session, "a", 100, 50);
    session.ok(publish("a", 100));
    CHECK(look_up(session, "b", 100, 300, " prompt_length=400").tokens == 100);
    CHECK(look_up(session, "c", 100, 300, " prompt_length=500").tokens == 0);
    Session fixed(create + " context_tokens=400");
    fixed.ok("seq a data=3 prompt_length=100");
    feed(fixed, "a", 100, 50);
    fixed.ok(publish("a", 100));
    CHECK(look_up(fixed, "b", 100, 300, " prompt_length=300").tokens == 100);
}

TEST_CASE("prefix: a conversation publishes after each turn and runs only what is new at the next, as if it had run all") {
    const std::string create = shape + short_window("int4", 10, 3);
    Session session(create);
    Bytes outputs;
    int64_t length = 0;
    for (const auto& [question, answer] : std::vector<std::pair<int64_t, int64_t>>{{120, 40}, {3, 1}, {64, 64}, {1, 0}, {200, 77}}) {
        const int64_t q = length + question;
        const std::string name = "turn" + std::to_string(length);
        CHECK(look_up(session, name, q, q).tokens == length);
        const Bytes out = session.feed(name, question + answer, 50);
        length = q + answer;
        session.ok(publish(name, length));
        session.ok("destroy " + name);
    }
    look_up(session, "end", length, length + 60);
    expect_fresh(session, "end", Fresh(create, length, 60, ""), 60);
}

TEST_CASE("prefix: publishing again refreshes, and a lower floor replaces") {
    Session session(shape + short_window("int4", 10, 3));
    for (const char* name : {"a", "b"}) {
        session.ok(std::string("seq ") + name + " data=3");
        session.feed(name, 300, 97);
    }
    session.ok("evict a budget=120 scores=4");
    session.ok(publish("a", 300));
    const std::vector<int64_t> first = session.ok("prefix_stats").numbers;
    session.ok(publish("a", 300));
    CHECK(session.ok("prefix_stats").numbers == first);
    CHECK(look_up(session, "c", 290, 400).tokens == 0);
    session.ok(publish("b", 300));  // not evicted: may be cut from its exact floor on
    CHECK(session.ok("prefix_stats").numbers[0] == 1);
    CHECK(look_up(session, "d", 290, 400).tokens == 290);
    session.ok(publish("a", 300));
    CHECK(look_up(session, "e", 290, 400).tokens == 290);
}

TEST_CASE("prefix: removing takes the entries that begin so, of the salt alone") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    for (int64_t n : {60, 64, 130, 200}) {
        session.feed("a", n - session.number("length a"), 64);
        session.ok(publish("a", n));
        session.ok(publish("a", n) + " salt=x pinned=1");
    }
    CHECK(session.number("unpublish" + words({{"text", 3}, {"n", 201}})) == 0);
    CHECK(session.number("unpublish" + words({{"text", 3}, {"other", 4}, {"turn", 129}, {"n", 130}})) == 0);
    CHECK(session.number("unpublish" + words({{"text", 3}, {"n", 130}})) == 2);
    CHECK(look_up(session, "b", 200, 300).tokens == 64);
    CHECK(look_up(session, "c", 200, 300, " salt=x").tokens == 200);
    CHECK(session.number("unpublish n=0 salt=x") == 4);
    CHECK(session.number("unpublish n=0 salt=x") == 0);
    CHECK(session.ok("prefix_stats").numbers[0] == 2);
    session.ok("prefix_clear");
    CHECK(session.ok("prefix_stats").numbers[0] == 0);
}

TEST_CASE("prefix: refusals change nothing") {
    Session session(shape + short_window("int4", 10, 3));
    session.ok("seq a data=3");
    session.feed("a", 300, 97);
    session.ok(publish("a", 280));
    const Bytes before = session.stored("a");
    const std::vector<int64_t> stats = session.ok("prefix_stats").numbers, records = session.stats();
    const int64_t floor = session.number("floor a");
    CHECK(session.status(publish("a", 301)) == "range");
    CHECK(session.status(publish("a", floor - 1)) == "range");
    CHECK(session.status(publish("a", 0)) == "argument");
    CHECK(session.status(publish("nobody", 10)) == "handle");
    CHECK(session.status(publish("a", 300) + " pinned=2") == "argument");
    session.ok("begin t a:1");
    CHECK(session.status(publish("a", 300)) == "busy");
    session.ok("abort t");
    CHECK(session.status("prefix_budget bytes=-1") == "argument");
    CHECK(session.status("lookup b" + prompt(300, 400) + " first_position=-1") == "argument");
    CHECK(session.status("lookup b" + prompt(300, 400) + " prompt_length=-1") == "argument");
    CHECK(session.stored("a") == before);
    CHECK(session.ok("prefix_stats").numbers == stats);
    CHECK(session.stats() == records);
}

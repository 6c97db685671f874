// Law: entries of the prefix index live in the room that nobody else needs. They are counted exactly, leave least recently used first,
// as few as make room, and none where all would not.
#include <kvc.h>

#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 k_dim=64 codec=int4";

std::string fixed(int64_t slabs) { return shape + " growth=0 arena_bytes=" + std::to_string(slabs * 65536); }

std::string key(int64_t text, int64_t n) { return " text=" + std::to_string(text) + " n=" + std::to_string(n); }

struct PrefixNumbers {
    int64_t entries, tokens, records, budget, hits, misses, hit_tokens, evictions;
};

PrefixNumbers prefix_numbers(Session& session) {
    const std::vector<int64_t> n = session.ok("prefix_stats").numbers;
    return {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]};
}

// A sequence of its own that is published and ends.
void publish_text(Session& session, int64_t text, int64_t tokens, const std::string& more = "") {
    session.ok("seq writer data=" + std::to_string(text));
    session.feed("writer", tokens, 64);
    session.ok("publish writer" + key(text, tokens) + more);
    session.ok("destroy writer");
}

// Texts whose entries are there, found without using or changing them: a prompt of one token more than is shared has no room to lack.
std::vector<int64_t> texts_held(Session& session, int64_t count) {
    std::vector<int64_t> held;
    for (int64_t text = 0; text < count; text++) {
        kvc_prefix_hit hit{};
        hit.struct_size = sizeof hit;
        const int64_t first = text;  // the first token of a text is its number
        const kvc_seq seq = kvc_prefix_lookup(session.replay.cache(), &first, 1, nullptr, 0, nullptr, &hit, nullptr);
        REQUIRE(seq != 0);
        CHECK(hit.tokens == 0);
        if (hit.shared == 1) held.push_back(text);
        kvc_seq_destroy(session.replay.cache(), seq, nullptr);
    }
    return held;
}

}  // namespace

TEST_CASE("prefix memory: records are counted once, whoever shares them, and nothing is reserved or left behind") {
    Session session(shape);
    session.ok("seq a data=3");
    session.feed("a", 500, 100);
    const int64_t alone = session.stats()[2];
    session.ok("publish a" + key(3, 500));
    session.ok("lookup b" + key(3, 501));
    const std::vector<int64_t> shared = session.stats();
    CHECK(shared[6] == 0);  // reserved
    CHECK(shared[2] == shared[3] + shared[4] + shared[5] + shared[7]);
    // The page that 500 goes through is each one's own, in 2 layers of 2 heads; all others are shared.
    const int64_t page = shared[4] / (2 * 2 * 5);  // 2 whole pages in the window, and three times the last one
    CHECK(shared[2] == alone + 2 * (2 * 2) * page);
    CHECK(prefix_numbers(session).records == alone);
    session.ok("destroy a");
    session.ok("destroy b");
    CHECK(session.stats()[2] == prefix_numbers(session).records);
    CHECK(session.stats()[2] == alone);
    session.ok("prefix_clear");
    CHECK(session.stats()[2] == 0);
    CHECK(prefix_numbers(session).records == 0);
}

TEST_CASE("prefix memory: an entry holds alone what the planner calls a checkpoint, to the byte, and shares the rest") {
    const std::vector<std::string> shapes = {shape,
                                             " layers=2 kv_heads=3 k_dim=80 codec=fp16",
                                             " layers=2 kv_heads=2 k_dim=96 codec=kivi2 spare_pages=2",
                                             "layer 1 sliding_window=100 codec=int8; layers=2 kv_heads=2 k_dim=64 codec=int2",
                                             " layers=2 kv_heads=2 k_dim=64 codec=fp16 sliding_window=70",
                                             " layers=2 kv_heads=2 k_dim=64 codec=int8/int4@128",
                                             " layers=2 kv_heads=2 k_dim=64 codec=fp16/int8@64/int4@256",
                                             " layers=2 kv_heads=2 k_dim=64 codec=int8/int4@128 policy=streaming:300",
                                             " layers=2 kv_heads=2 k_dim=64 codec=fp16 policy=streaming:300",
                                             " layers=2 kv_heads=2 k_dim=64 codec=int4 policy=streaming:300"};
    for (const std::string& create : shapes)
        for (int64_t tokens : {1, 3, 4, 5, 64, 68, 69, 131, 132, 195, 196, 197, 260, 700}) {
            CAPTURE(create);
            CAPTURE(tokens);
            Session session(create);
            session.ok("seq a data=3");
            feed(session, "a", tokens, 512);
            session.ok("publish a" + key(3, tokens));
            feed(session, "a", 600, 512);
            const int64_t source = session.ok("stats a").numbers[1];
            kvc_plan_request request;
            kvc_plan_request_init(&request, sizeof request);
            request.tokens = tokens;
            kvc_plan plan{};
            plan.struct_size = sizeof plan;
            const auto& shapes_of = session.replay.shapes();
            REQUIRE(kvc_plan_compute(&shapes_of.options, shapes_of.uniform() ? nullptr : shapes_of.layers.data(),
                                     shapes_of.uniform() ? 0 : shapes_of.options.layers, &request, &plan, nullptr) == KVC_OK);
            CHECK(session.stats()[2] - source == plan.checkpoint_bytes);
        }
}

TEST_CASE("prefix memory: entries that share pages hold them once") {
    Session session(shape);
    session.ok("seq a data=3");
    int64_t apart = 0;
    for (int64_t n = 100; n <= 1000; n += 100) {
        session.feed("a", 100, 100);
        session.ok("publish a" + key(3, n));
        apart += session.ok("stats a").numbers[1];
    }
    const int64_t source = session.ok("stats a").numbers[1], all = session.stats()[2];
    session.ok("destroy a");
    CHECK(session.stats()[2] == prefix_numbers(session).records);
    CHECK(session.stats()[2] == all - 2 * 2 * 64 * (64 + 64) * 2);  // the page that 1,000 goes through was a's own
    CHECK(session.stats()[2] < apart * 2 / 3);
    CHECK(session.stats()[2] > source);
    CHECK(prefix_numbers(session).tokens == 5500);
}

TEST_CASE("prefix memory: a server that publishes everything runs for ever in a fixed arena") {
    for (const char* spare : {"", " spare_pages=1"}) {
        Session session(fixed(12) + spare);
        for (int64_t text = 0; text < 40; text++) {
            publish_text(session, text, 150 + text % 70);
            CHECK(texts_held(session, text + 1).back() == text);
            CHECK(session.stats()[2] == prefix_numbers(session).records);
        }
        const PrefixNumbers numbers = prefix_numbers(session);
        CHECK(numbers.evictions > 20);
        CHECK(numbers.entries + numbers.evictions == 40);
        CHECK(numbers.entries > 1);
    }
}

TEST_CASE("prefix memory: the least recently used leave first, and publishing or looking up is use") {
    Session session(shape);
    for (int64_t text = 0; text < 4; text++)
        publish_text(session, text, 200);
    session.ok("lookup a" + key(0, 201));
    session.ok("seq writer");
    session.feed("writer", 200, 64);
    session.ok("publish writer" + key(1, 200));
    const int64_t each = prefix_numbers(session).records / 4;
    session.ok("prefix_budget bytes=" + std::to_string(3 * each));
    CHECK(texts_held(session, 4) == std::vector<int64_t>{0, 1, 3});
    session.ok("prefix_budget bytes=" + std::to_string(2 * each));
    CHECK(texts_held(session, 4) == std::vector<int64_t>{0, 1});
    session.ok("prefix_budget bytes=" + std::to_string(2 * each - 1));
    CHECK(texts_held(session, 4) == std::vector<int64_t>{1});
    CHECK(prefix_numbers(session).evictions == 3);
}

TEST_CASE("prefix memory: a step drops as few entries as give it room, also beside another open step") {
    for (const bool beside : {false, true}) {
        CAPTURE(beside);
        const auto filled = [&](Session& session) {
            session.ok("seq other");
            session.ok("seq a");
            if (beside) session.ok("begin open other:5");
            int64_t text = 0;
            for (; prefix_numbers(session).evictions == 0 && text < 60; text++) {
                // Every other one shares its pages with the one before.
                publish_text(session, text, 100 + 40 * (text % 5));
            }
            return text;
        };
        for (int64_t tokens : {1, 70, 300, 600}) {
            CAPTURE(tokens);
            const std::string begin = "begin t a:" + std::to_string(tokens);
            Session session(fixed(14));
            const int64_t texts = filled(session);
            const int64_t before = prefix_numbers(session).entries, already = prefix_numbers(session).evictions;
            session.ok(begin);
            const int64_t dropped = prefix_numbers(session).evictions - already;
            CHECK(prefix_numbers(session).entries == before - dropped);
            session.ok("abort t");
            // One fewer would not have been enough.
            Session again(fixed(14));
            filled(again);
            const std::vector<int64_t> held = texts_held(again, texts);
            for (int64_t i = 0; i < dropped - 1; i++)
                CHECK(again.number("unpublish n=1 text=" + std::to_string(held[size_t(i)])) == 1);
            CHECK(texts_held(session, texts) == std::vector<int64_t>(held.begin() + dropped, held.end()));
            if (dropped > 0) {
                const int64_t evictions = prefix_numbers(again).evictions;
                again.ok(begin);
                CHECK(prefix_numbers(again).evictions == evictions + 1);
            }
            if (tokens == 600) CHECK(dropped > 1);
        }
    }
}

TEST_CASE("prefix memory: where all entries would not make room none is dropped, and pinned ones never are") {
    Session session(fixed(14));
    session.ok("seq a");
    session.feed("a", 700, 64);
    for (int64_t text = 0; text < 3; text++)
        publish_text(session, text, 100);
    const PrefixNumbers before = prefix_numbers(session);
    const std::vector<int64_t> records = session.stats();
    session.ok("seq b");
    for (const char* step : {"begin t b:1500", "begin t b:1000000", "begin t b:1099511627776"})
        CHECK(session.status(step) == "no_memory");
    CHECK(prefix_numbers(session).entries == before.entries);
    CHECK(prefix_numbers(session).evictions == 0);
    std::vector<int64_t> now = session.stats();
    now[8] = records[8];  // one more sequence
    CHECK(now == records);

    Session pinned(fixed(14));
    int64_t text = 0;
    for (;; text++) {
        pinned.ok("seq writer");
        if (pinned.status("begin t writer:200") == "no_memory") break;
        pinned.ok("abort t");
        pinned.feed("writer", 200, 64);
        pinned.ok("publish writer pinned=1" + key(text, 200));
        pinned.ok("destroy writer");
        REQUIRE(text < 100);
    }
    CHECK(prefix_numbers(pinned).entries == text);
    CHECK(prefix_numbers(pinned).evictions == 0);
    CHECK(pinned.number("unpublish text=1 n=200") == 1);
    pinned.ok("begin t writer:200");
}

TEST_CASE("prefix memory: forks, evictions, publishing and lookups find room among the entries, too") {
    for (const std::string call : {"fork", "evict", "publish", "lookup"}) {
        CAPTURE(call);
        Session session(fixed(60));
        session.ok("seq a data=50");
        session.feed("a", 640, 64);
        session.ok("publish a pinned=1 text=50 n=640");
        for (int64_t i = 0; i < 8; i++)  // sequences that own no record alone but their last page
            session.ok("fork f" + std::to_string(i) + " a length=640");
        for (int64_t text = 100; prefix_numbers(session).evictions < 1; text++) {
            publish_text(session, text, 190);
            REQUIRE(text < 200);
        }
        const int64_t entries = prefix_numbers(session).entries, evictions = prefix_numbers(session).evictions;
        REQUIRE(entries > 4);
        for (int64_t i = 0; i < 8; i++) {
            const std::string number = std::to_string(i);
            if (call == "fork") session.ok("fork g" + number + " a length=640");
            if (call == "evict") session.ok("evict f" + number + " budget=300 scores=4");
            if (call == "publish") session.ok("publish a n=640 text=" + number);
            if (call == "lookup") session.ok("lookup g" + number + " text=50 n=641");
        }
        CHECK(prefix_numbers(session).evictions > evictions);
        CHECK(session.stats()[6] == 0);
    }
}

TEST_CASE("prefix memory: the budget bounds what entries hold, and refuses an entry that pinned ones leave no room for") {
    Session session(shape);
    publish_text(session, 0, 200);
    const int64_t each = prefix_numbers(session).records;
    session.ok("prefix_budget bytes=" + std::to_string(3 * each));
    for (int64_t text = 1; text < 20; text++) {
        publish_text(session, text, 200);
        CHECK(prefix_numbers(session).records <= 3 * each);
        CHECK(prefix_numbers(session).entries == std::min<int64_t>(3, text + 1));
    }
    publish_text(session, 20, 200, " pinned=1");
    publish_text(session, 21, 200, " pinned=1");
    const PrefixNumbers before = prefix_numbers(session);
    CHECK(before.entries == 3);
    session.ok("seq long");
    session.feed("long", 400, 100);
    const std::vector<int64_t> records = session.stats();
    CHECK(session.status("publish long text=30 n=400") == "no_memory");
    CHECK(session.status("prefix_budget bytes=" + std::to_string(2 * each - 1)) == "no_memory");
    CHECK(session.stats() == records);
    CHECK(prefix_numbers(session).entries == 3);
    CHECK(prefix_numbers(session).budget == 3 * each);
    session.ok("prefix_budget bytes=" + std::to_string(2 * each));
    CHECK(texts_held(session, 22) == std::vector<int64_t>{20, 21});
    session.ok("prefix_budget bytes=0");
    session.ok("publish long text=30 n=400");
    CHECK(prefix_numbers(session).entries == 3);
}

// Law: eviction works in an arena that is full, and where it cannot it changes nothing.
#include <kvc.h>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

struct Arena {
    std::string shape;
    int64_t tokens;

    std::string words() const { return shape + " growth=0 arena_tokens=" + std::to_string(tokens); }
};

// The first prompt step and the last token as the plan has them.
void fill(Session& session, const std::string& name, int64_t tokens) {
    session.ok("seq " + name + " data=3");
    session.feed(name, tokens - 1, 512);
    session.feed(name, 1, 1);
}

// What an eviction leaves is what it leaves where there is any amount of room.
void check_evicts(const Arena& arena, const std::string& line) {
    CAPTURE(arena.words());
    CAPTURE(line);
    Session full(arena.words()), roomy(arena.shape);
    for (Session* session : {&full, &roomy})
        fill(*session, "a", arena.tokens);
    const int64_t before = full.stats()[2];
    const kvc_scripts::Outcome done = full.run(line);
    REQUIRE_MESSAGE(done.status == KVC_OK, done.message);
    const std::vector<int64_t> expected = roomy.ok(line).numbers;
    CHECK(done.numbers == expected);
    CHECK(full.stats()[2] < before);
    CHECK(full.stats()[2] == roomy.stats()[2]);
    CHECK(full.stored("a") == roomy.stored("a"));
    // The memory that came back serves.
    CHECK(full.feed("a", 64, 32) == roomy.feed("a", 64, 32));
    CHECK(full.stored("a") == roomy.stored("a"));
    full.ok("destroy a");
    CHECK(full.stats()[1] == 0);
}

}  // namespace

TEST_CASE("full arena: an eviction that empties pages finds room for the records that gather the rest") {
    for (const std::string& codec : thinned<std::string>({"fp16", "bf16", "int8", "int4", "kivi2", "fp16/int4"}))
        for (const int64_t tokens : thinned<int64_t>({600, 2000, 1000}))
            for (const int64_t share : {2, 3})
                check_evicts({"layers=2 kv_heads=2 k_dim=64 codec=" + codec, tokens},
                             "evict a scores=5 budget=" + std::to_string(tokens / share));
}

TEST_CASE("full arena: likewise under a policy that never acts by itself, for lists, single heads and merges") {
    const std::string fp16 = "layers=2 kv_heads=4 k_dim=64 codec=fp16";
    check_evicts({fp16 + " policy=given:300,every=never", 1000}, "evict a scores=5");
    check_evicts({fp16, 1000}, "evict a scores=5 budget=200 heads=1:3 layers=1:2");
    std::string keep;
    for (int64_t j = 5; j < 1000; j += 7)
        keep += (keep.empty() ? "" : ",") + std::to_string(j);
    check_evicts({fp16, 1000}, "keep a positions=" + keep);
    check_evicts({fp16, 1000}, "merge a seed=3");
}

TEST_CASE("full arena: pages that a fork holds, too, are given up without harm to it") {
    const std::string shape = "layers=2 kv_heads=2 k_dim=64 codec=fp16";
    Session session(shape + " growth=0 arena_tokens=1000");
    fill(session, "a", 900);
    session.ok("fork b a length=900");
    const Bytes before = session.stored("b");
    CHECK(session.status("evict a scores=5 budget=400") == "no_memory");  // everything stays, as b's
    CHECK(session.stored("a") == before);
    CHECK(session.stored("b") == before);
    session.ok("destroy b");
    session.ok("evict a scores=5 budget=400");
}

TEST_CASE("full arena: an eviction that frees less than its records of positions take is refused and changes nothing") {
    const std::string shape = "layers=1 kv_heads=1 k_dim=64 codec=fp16";
    Session session(shape + " growth=0 arena_tokens=1000");
    fill(session, "a", 1000);
    const std::vector<int64_t> full = session.stats();
    int refused = 0;
    bool freed = false;
    for (int64_t budget = 990; budget > 400 && !freed; budget -= 10) {
        CAPTURE(budget);
        const Bytes before = session.stored("a");
        const std::string status = session.status("evict a scores=5 budget=" + std::to_string(budget));
        freed = session.stats()[2] < full[2];
        if (status == "ok") continue;
        CHECK(status == "no_memory");
        CHECK(session.stored("a") == before);
        CHECK(session.stats()[1] == full[1]);
        CHECK(session.stats()[2] == full[2]);
        refused++;
    }
    CHECK(refused > 0);
    CHECK(freed);
}

TEST_CASE("full arena: while a step is open elsewhere, records stay where they are and whole slabs that come free serve") {
    const std::string shape = "layers=2 kv_heads=2 k_dim=64 codec=fp16";
    Session full(shape + " growth=0 arena_tokens=2000"), roomy(shape);
    for (Session* session : {&full, &roomy}) {
        session->ok("seq b data=4");
        session->feed("b", 30, 30);
        fill(*session, "a", 1960);
        session->open("t", "b:1");
    }
    CHECK(full.ok("evict a scores=5 budget=300").numbers == roomy.ok("evict a scores=5 budget=300").numbers);
    CHECK(full.stored("a") == roomy.stored("a"));
    full.ok("commit t"), roomy.ok("commit t");
    CHECK(full.stored("b") == roomy.stored("b"));
}

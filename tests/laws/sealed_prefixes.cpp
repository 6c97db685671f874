// Law: a sealed entry holds codes alone, a hit of it sees them so from its first step on, however its source had come there, and once a
// window has passed nothing tells it from a run that was never sealed.
#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=6 k_dim=32 codec=";
constexpr int64_t sinks = 3, window = 10;

std::string key(int64_t n) { return " text=3 n=" + std::to_string(n); }
std::string prompt(int64_t n) { return " data=3" + key(n); }

// kvc_stats: bytes of records in all, of sinks, windows and codes.
struct Held {
    int64_t all, sinks, window, codes;

    explicit Held(Session& session) {
        const std::vector<int64_t> numbers = session.stats();
        all = numbers[2], sinks = numbers[3], window = numbers[4], codes = numbers[5];
    }
};

std::vector<std::string> shapes() {
    std::vector<std::string> all;
    for (const std::string& preset : presets())
        for (const std::string extra : {"", " spare_pages=2", " sliding_window=100"})
            all.push_back(extra + shape + short_window(preset, window, sinks));
    all.push_back(shape + "int8/int4@512");
    all.push_back(" layer 1 codec=fp16; layers=2 kv_heads=2 q_heads=6 k_dim=32 codec=" + short_window("int4", window, sinks));
    return all;
}

int64_t sealable(const std::string& create, int64_t pages) {
    return (create.find("@512") != std::string::npos ? 4 : sinks) + 64 * pages;
}

}  // namespace

TEST_CASE("sealed prefix: hits are alike however far the source had gone and in whatever steps") {
    for (const std::string& create : shapes())
        for (const int64_t pages : {0, 1, 2, 4}) {
            CAPTURE(create);
            CAPTURE(pages);
            const int64_t n = sealable(create, pages);
            Session exactly(create), beyond(create);
            for (Session* each : {&exactly, &beyond})
                each->ok("seq a data=3");
            exactly.feed("a", n, 70);
            beyond.feed("a", n, 33);
            beyond.feed("a", 7, 5);  // still in its window
            for (Session* each : {&exactly, &beyond}) {
                const Bytes source = each->stored("a");
                each->ok("publish a seal=1" + key(n));
                CHECK(each->stored("a") == source);
                CHECK(each->ok("lookup b" + prompt(n + 50)).numbers == std::vector<int64_t>{n, n});
                each->ok("destroy a");
            }
            CHECK(exactly.stored("b") == beyond.stored("b"));
            CHECK(exactly.feed("b", 200, 200) == beyond.feed("b", 200, 200));
            CHECK(exactly.stored("b") == beyond.stored("b"));
        }
}

TEST_CASE("sealed prefix: it holds no window, and its codes are those that a run without sealing comes to") {
    for (const std::string& create : shapes()) {
        CAPTURE(create);
        const int64_t n = sealable(create, 4), later = window + 64 * 4;
        Session sealed(create), plain(create);
        for (Session* each : {&sealed, &plain}) {
            each->ok("seq a data=3");
            each->feed("a", n, 64);
        }
        const Held open(sealed);
        sealed.ok("publish a seal=1" + key(n));
        sealed.ok("destroy a");
        const bool coded = create.find("f16") == std::string::npos && create.find("fp16") == std::string::npos;
        if (coded) {
            CHECK(Held(sealed).window == 0);
            CHECK(Held(sealed).all < open.all);
            CHECK(Held(sealed).all == sealed.ok("prefix_stats").numbers[2]);
            CHECK(Held(sealed).codes > 0);
        }
        CHECK(sealed.ok("lookup b" + prompt(n + 1)).numbers[0] == n);
        if (coded) CHECK(sealed.number("floor b") == n);
        feed(sealed, "b", later, 64);
        feed(plain, "a", later, 64);
        CHECK(sealed.stored("b") == plain.stored("a"));
        // A page of codes for each page of the window, and none besides; of pages that left, the entry holds more than the hit.
        if (create.find("sliding") != std::string::npos || create.find("codec=fp16;") != std::string::npos) sealed.ok("prefix_clear");
        CHECK(Held(sealed).all == Held(plain).all);
    }
}

TEST_CASE("sealed prefix: it serves prompts that share all of it, and a longer hit of it can be published and sealed again") {
    Session session(shape + short_window("int4", window, sinks));
    session.ok("seq a data=3");
    session.feed("a", 200, 64);
    session.ok("publish a seal=1" + key(195));
    session.ok("destroy a");
    CHECK(session.ok("lookup b" + prompt(195)).numbers == std::vector<int64_t>{0, 195});  // one token must be left to run
    CHECK(session.ok("lookup c" + prompt(196)).numbers == std::vector<int64_t>{195, 195});
    session.feed("c", 64, 30);
    session.ok("publish c seal=1" + key(259));
    CHECK(session.ok("prefix_stats").numbers[0] == 2);
    CHECK(session.ok("lookup d" + prompt(300)).numbers[0] == 259);
    session.ok("truncate c length=259");
    CHECK(session.status("truncate c length=200") == "range");  // codes up to 195 whatever it was before, but that is not kept
    session.ok("truncate c cut=inexact length=200");
}

TEST_CASE("sealed prefix: the same tokens again leave the entry, and change its form where that is asked for") {
    Session session(shape + short_window("int4", window, sinks));
    session.ok("seq a data=3");
    session.feed("a", 195, 64);
    session.ok("publish a" + key(195));
    const int64_t open = session.ok("prefix_stats").numbers[2];
    session.ok("publish a seal=1" + key(195));
    const int64_t sealed = session.ok("prefix_stats").numbers[2];
    CHECK(sealed < open);
    session.ok("publish a seal=1" + key(195));
    CHECK(session.ok("prefix_stats").numbers[2] == sealed);
    CHECK(session.ok("prefix_stats").numbers[0] == 1);
    session.ok("publish a" + key(195));
    CHECK(session.ok("prefix_stats").numbers[2] == open);
    CHECK(session.ok("prefix_stats").numbers[0] == 1);
}

TEST_CASE("sealed prefix: refusals change nothing") {
    Session session(shape + short_window("int4", window, sinks));
    session.ok("seq a data=3");
    session.feed("a", 260, 64);
    const std::vector<int64_t> before = session.stats();
    for (const int64_t n : {1, 2, 4, 66, 68, 258, 260}) {
        CAPTURE(n);
        const bool within = n >= session.number("floor a");
        CHECK(session.status("publish a seal=1" + key(n)) == (within ? "argument" : "range"));
    }
    CHECK(session.status("publish a seal=2" + key(259)) == "argument");
    CHECK(session.status("publish a seal=-1" + key(259)) == "argument");
    CHECK(session.stats() == before);
}

TEST_CASE("sealed prefix: layers whose sinks differ have lengths in common, or none, and the refusal says which") {
    const auto answer = [](const std::string& layer_0, const std::string& layer_1, int64_t n) {
        Session session("layer 1 codec=" + layer_1 + ";" + shape + layer_0);
        session.ok("seq a data=3");
        session.feed("a", n, 64);
        const kvc_scripts::Outcome made = session.run("publish a seal=1" + key(n));
        return std::pair(made.status, made.message);
    };
    const auto int4 = [](int64_t s) { return short_window("int4", window, s); };
    CHECK(answer(int4(3), int4(3), 67).first == KVC_OK);
    CHECK(answer(int4(3), "fp16", 67).first == KVC_OK);
    CHECK(answer(int4(0), int4(64), 128).first == KVC_OK);
    // Below the larger number of sinks there is no length: the two nearest ones lie above it.
    const auto below = answer(int4(0), int4(64), 32);
    CHECK(below.first == KVC_E_ARGUMENT);
    CHECK(below.second.find("32 tokens are not 64 sinks and whole pages of 64; 64 or 128 would be") != std::string::npos);
    for (const int64_t n : {64, 67, 100}) {
        const auto never = answer(int4(3), int4(0), n);
        CHECK(never.first == KVC_E_UNSUPPORTED);
        CHECK(never.second.find("the 3 sinks of layer 0 and behind the 0 of layer 1") != std::string::npos);
    }
}

TEST_CASE("sealed prefix: an arena without room refuses, and other entries make way first") {
    for (const bool entry : {false, true}) {
        CAPTURE(entry);
        Session session(" growth=0 arena_bytes=4194304 layers=2 kv_heads=16 q_heads=16 k_dim=64 codec=" +
                        short_window("int4", window, sinks));
        session.ok("seq a data=3");
        session.feed("a", 195, 65);
        // Sequences take what is left, and one of them becomes an entry.
        for (int fill = 0; fill < 200; fill++) {
            const std::string name = "f" + std::to_string(fill);
            session.ok("seq " + name + " data=1");
            if (session.status("begin t " + name + ":67") != "ok") break;
            session.ok("abort t");
            session.feed(name, 67, 67);
        }
        if (entry) session.ok("publish f0 text=9 n=67");
        if (entry) session.ok("destroy f0");
        const Bytes source = session.stored("a");
        const std::vector<int64_t> before = session.ok("prefix_stats").numbers, records = session.stats();
        REQUIRE(before[0] == int64_t{entry});
        const std::string status = session.status("publish a seal=1" + key(195));
        CHECK(session.stored("a") == source);
        const std::vector<int64_t> after = session.ok("prefix_stats").numbers;
        CHECK(status == (entry ? "ok" : "no_memory"));
        CHECK(after[7] == before[7] + int64_t{entry});  // dropped
        if (!entry) CHECK(session.stats() == records);
        if (entry) CHECK(session.ok("lookup b" + prompt(196)).numbers[0] == 195);
    }
}

TEST_CASE("sealed prefix: in a full arena as few entries leave as make room for its codes, those first that nobody used for longest") {
    Session session(" growth=0 arena_bytes=1048576 layers=1 kv_heads=2 q_heads=2 k_dim=64 codec=" + short_window("int4", 140, sinks));
    const auto dropped = [&] { return session.ok("prefix_stats").numbers[7]; };
    session.ok("seq a data=3");
    session.feed("a", 259, 65);
    session.ok("seq f data=1");
    session.feed("f", 67, 67);
    // Each holds one page of codes a head, and nothing else alone.
    int64_t text = 10;
    for (; dropped() == 0 && text < 400; ++text)
        session.ok("publish f seal=1 n=67 text=" + std::to_string(text));
    REQUIRE(dropped() == 1);
    session.ok("publish a seal=1" + key(259));  // three pages a head
    CHECK(dropped() == 1 + 3);
    for (int64_t old = 10; old < text; ++old)
        CHECK(session.ok("lookup b data=1 n=68 text=" + std::to_string(old)).numbers[0] == (old < 10 + 1 + 3 ? 0 : 67));
    CHECK(session.ok("lookup b" + prompt(260)).numbers[0] == 259);
}

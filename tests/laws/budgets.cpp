// Budgets of a policy: by bytes, layers, competing heads and sequences; what must stay; and the planner under a policy.
#include "tests/laws/policy_session.h"

using namespace kvc_laws;

TEST_CASE("budgets: in bytes they bound the records at any length") {
    for (const std::string codec : {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4"})
        for (const std::string& name : thinned<std::string>({"streaming", "h2o", "h2o+ada", "key_norm"}))
            for (const int64_t limit : {bytes_for_heads(240 << 10), bytes_for_heads(400 << 10)}) {
                CAPTURE(codec);
                CAPTURE(name);
                const bool ada = name == "h2o+ada";
                const std::string bytes = std::to_string(limit) + "B";
                Session session(policy_shape + codec + " policy=" + (ada ? "h2o:" : name + ":") + bytes + (ada ? ",heads=ada" : ""));
                session.ok("seq a data=3");
                int64_t most = 0;
                for (int64_t i = 0; i < (laws_are_thinned() ? 24 : 40); ++i) {
                    feed(session, "a", 33, 33);
                    most = std::max(most, session.stats()[2]);
                }
                CHECK(most <= limit);
                CHECK(most >= limit / 3);  // and use what they may
            }
}

TEST_CASE("budgets: by layers and competing heads they add up, and pages are really freed") {
    for (const std::string more : {",layers=pyramid", ",layers=3/1", ",heads=ada", ",heads=ada,floor=50%"}) {
        CAPTURE(more);
        Session session(" layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=fp16 policy=h2o:150,recent=40" + more);
        session.ok("seq a data=3");
        feed(session, "a", 640, 64);
        int64_t sum = 0;
        std::vector<int64_t> live;
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head) {
                live.push_back(session.number("live " + head_words("a", layer, head)));
                sum += live.back();
                CHECK(live.back() >= (more.find("floor=50%") != std::string::npos ? 75 : 44));
            }
        CHECK(sum == 4 * 150);
        if (more == ",layers=3/1") CHECK(live == std::vector<int64_t>{225, 225, 75, 75});
        if (more == ",layers=pyramid") CHECK(live == std::vector<int64_t>{225, 225, 75, 75});
        if (more.starts_with(",heads=ada")) CHECK(live[0] + live[1] == 300);
        const int64_t token = token_bytes(session), record = 64 * token;
        // Pages are eight ninths full but for the last one; sinks, the page being filled and the positions of repacked pages besides.
        const int64_t positions = (sum / 56 + 4) * 512;
        CHECK(session.stats()[2] <= 4 * (4 * token + 2 * record) + sum * token * 9 / 8 + positions);
    }
}

TEST_CASE("budgets: one sequence's can be changed while it runs") {
    for (const std::string policy : {"h2o:200", "streaming:200"}) {
        CAPTURE(policy);
        Session session(policy_shape + "fp16 policy=" + policy);
        session.ok("seq a data=3");
        session.ok("seq b data=4");
        for (const char* name : {"a", "b"})
            feed(session, name, 320, 64);
        const Bytes other = session.stored("b");
        const kvc_seq a = session.replay.handle_of("a");
        kvc_error error = {sizeof error, 0, ""};
        CHECK(kvc_seq_budget_set(session.replay.cache(), a, 3, &error) == KVC_E_ARGUMENT);
        CHECK(kvc_seq_budget_set(session.replay.cache(), a, -1, &error) == KVC_E_ARGUMENT);
        REQUIRE(kvc_seq_budget_set(session.replay.cache(), a, 100, &error) == KVC_OK);
        feed(session, "a", 64, 64);
        const int64_t kept = session.number("live a");
        CHECK(kept == (is_streaming(policy) ? 100 + (384 - 100) % 64 : 100));
        REQUIRE(kvc_seq_budget_set(session.replay.cache(), a, 0, &error) == KVC_OK);
        feed(session, "a", 128, 64);
        CHECK(session.number("live a") > 100);
        CHECK(session.number("live a") <= 200 + 63);
        CHECK(session.stored("b") == other);
    }
    Session plain(policy_shape + "fp16");
    plain.ok("seq a data=3");
    CHECK(kvc_seq_budget_set(plain.replay.cache(), plain.replay.handle_of("a"), 100, nullptr) == KVC_E_UNSUPPORTED);
}

TEST_CASE("budgets: what must stay is checked before anything is created") {
    const auto status = [](const std::string& words) {
        kvc_scripts::Replay replay{kvc_scripts::RunOptions{}};
        return kvc_scripts::status_word(replay.run(kvc_scripts::parse("create growth=1 k_dim=32 " + words).at(0)).status);
    };
    CHECK(status("codec=int4 policy=h2o:194") == "argument");  // 4 sinks and a window of 128 .. 191
    CHECK(status("codec=int4 policy=h2o:195") == "ok");
    CHECK(status("codec=fp16 policy=h2o:100,recent=97") == "argument");
    CHECK(status("codec=fp16 policy=h2o:100,recent=96") == "ok");
    CHECK(status("codec=fp16 policy=h2o:1KiB") == "argument");
    for (const char* policy : {"h2o:100B,sinks=0,recent=0", "h2o:8KiB,sinks=0", "streaming:1KiB,sinks=0", "given:100B,sinks=0"}) {
        CAPTURE(policy);
        CHECK(status(std::string("codec=fp16 policy=") + policy) == "argument");  // not one page a head
    }
    // The rule of positions alone lets the residual window shrink: at commit and on request the window always stays.
    for (const char* acting : {"commit", "never"}) {
        CHECK(status(std::string("codec=int4 policy=streaming:194,every=") + acting) == "argument");
        CHECK(status(std::string("codec=int4 policy=streaming:195,every=") + acting) == "ok");
    }
    CHECK(status("codec=fp16 policy=h2o:20% context_tokens=20") == "argument");
    CHECK(status("codec=fp16 policy=h2o:20% context_tokens=100") == "ok");
    Session session(" codec=fp16 policy=h2o:20%");
    CHECK(session.status("seq a") == "argument");  // a share of what?
    session.ok("seq a prompt_length=1000");
    feed(session, "a", 320, 64);
    CHECK(session.number("live a") == 200);
}

TEST_CASE("planner: a planned arena runs a policy to its end, and a rule of positions holds exactly what was planned") {
    for (const std::string codec : {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4"})
        for (const std::string& policy : policies(150)) {
            CAPTURE(codec);
            CAPTURE(policy);
            const std::string words = policy_shape + codec + " policy=" + policy;
            for (int64_t tokens : {100, 330, 900}) {
                CAPTURE(tokens);
                Session planned(words);
                const std::vector<int64_t> plan = planned.ok("plan tokens=" + std::to_string(tokens) + " step_tokens=64").numbers;
                kvc_scripts::Replay replay{kvc_scripts::RunOptions{}};
                const auto run = [&](const std::string& line) {
                    const kvc_scripts::Outcome outcome = replay.run(kvc_scripts::parse(line).at(0));
                    REQUIRE_MESSAGE(outcome.status == KVC_OK, line << ": " << outcome.message);
                    return outcome;
                };
                run("create arena_bytes=" + std::to_string(plan[0]) + words);
                run("seq a data=3");
                for (int64_t length = 0; length < tokens;) {
                    const int64_t n = std::min<int64_t>(length == tokens - 1 ? 1 : std::min<int64_t>(64, tokens - 1 - length), tokens);
                    int64_t limit = 0;
                    REQUIRE(kvc_seq_step_limit(replay.cache(), replay.handle_of("a"), &limit, nullptr) == KVC_OK);
                    const int64_t count = std::min(n, limit);
                    run("begin t a:" + std::to_string(count));
                    for (int layer = 0; layer < 2; ++layer)
                        for (const char* verb : {"append", "attend"})
                            run(std::string(verb) + " t seed=1 layer=" + std::to_string(layer));
                    run("commit t");
                    length += count;
                }
                const int64_t held = run("stats").numbers[2];
                CHECK(held <= plan[2]);
                if (is_streaming(policy) || tokens <= 150) CHECK(held == plan[2]);
            }
        }
}

TEST_CASE("policies: between the chunks of a prompt they lower its peak") {
    const auto peak = [](const std::string& policy) {
        Session session(policy_shape + "fp16" + policy);
        session.ok("seq a data=3");
        int64_t most = 0;
        for (int64_t i = 0; i < 32; ++i) {
            session.open("t" + std::to_string(i), "a:64");
            most = std::max(most, session.stats()[2]);  // with the open step's reservations
            session.ok("commit t" + std::to_string(i));
        }
        return most;
    };
    const int64_t all = peak("");
    CHECK(peak(" policy=h2o:256") < all / 2);
    CHECK(peak(" policy=streaming:256") < all / 4);
}

// Laws of a cache's policy: budgets hold, sinks and newest tokens stay, nothing depends on batch, threads or who calls.
#include <set>

#include "tests/laws/policy_session.h"

using namespace kvc_laws;

TEST_CASE("policies: the budget holds at boundaries, sinks and newest tokens stay") {
    for (const std::string codec :
         {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=3", "k=int8.tok,v=int2.tok.rot.ls,window=0,sinks=0"}) {
        if (!is_served(policy_shape + codec)) continue;
        for (const std::string& policy : policies(120)) {
            CAPTURE(codec);
            CAPTURE(policy);
            Session session(policy_shape + codec + " policy=" + policy);
            session.ok("seq a data=3");
            for (int64_t boundary = 64; boundary <= 512; boundary += 64) {
                feed(session, "a", 64, 40);
                for (int layer = 0; layer < 2; ++layer)
                    for (int head = 0; head < 2; ++head) {
                        const std::vector<int64_t> kept = positions_of(session, "a", layer, head);
                        const auto size = static_cast<int64_t>(kept.size());
                        CHECK(size == held_at(policy, 120, boundary));
                        const std::set<int64_t> set(kept.begin(), kept.end());
                        for (int64_t j = 0; j < 4; ++j)
                            CHECK(set.count(j) == 1);
                        for (int64_t j = std::max<int64_t>(0, boundary - 60); j < boundary; ++j)
                            CHECK(set.count(j) == 1);
                    }
            }
        }
    }
}

TEST_CASE("policies: with every codec a budget that suffices changes nothing, and one token more makes one leave") {
    constexpr int64_t budget = 100;
    for (const std::string& preset : presets()) {
        const std::string create = policy_shape + short_window(preset, 10, 4);
        Session plain(create);
        plain.ok("seq a data=3");
        const Bytes first = plain.feed("a", 1, 1), rest = plain.feed("a", budget - 1, budget);
        for (const std::string& policy : policies(budget)) {
            CAPTURE(preset);
            CAPTURE(policy);
            Session session(create + " policy=" + policy + (is_streaming(policy) ? "" : ",every=1"));
            session.ok("seq a data=3");
            CHECK(positions_of(session, "a").empty());
            CHECK(session.feed("a", 1, 1) == first);
            CHECK(session.feed("a", budget - 1, is_streaming(policy) ? budget : 1) == rest);
            CHECK(positions_of(session, "a").size() == budget);
            CHECK(session.ok("stats").numbers[5] == plain.ok("stats").numbers[5]);
            for (int64_t length = budget + 1; length <= budget + 65; length += 64) {
                session.feed("a", length - session.number("length a"), 1);
                for (int head = 0; head < 2; ++head)
                    CHECK(session.number("live " + head_words("a", 1, head)) == held_at(policy, budget, length));
            }
        }
    }
}

TEST_CASE("policies: with every codec a fork goes on as its source does, bit for bit, and neither touches the other") {
    for (const std::string& preset : presets())
        for (const std::string& policy : policies(100)) {
            CAPTURE(preset);
            CAPTURE(policy);
            Session session(policy_shape + short_window(preset, 10, 4) + " policy=" + policy);
            session.ok("seq a data=3");
            feed(session, "a", 192, 64);
            const Bytes before = session.stored("a");
            session.ok("fork b a length=192 data=3");
            session.ok("fork c a length=192 data=8");
            CHECK(session.stored("b") == before);
            const Bytes out = feed(session, "b", 140, 64);
            feed(session, "c", 140, 64);
            CHECK(session.stored("a") == before);
            CHECK(feed(session, "a", 140, 64) == out);
            CHECK(session.stored("a") == session.stored("b"));
            CHECK(session.stored("a") != session.stored("c"));
        }
}

TEST_CASE("policies: the first tokens and the newest are given up only if that is asked for") {
    for (const std::string& policy : policies(64)) {
        if (is_streaming(policy)) continue;  // it is the newest tokens
        CAPTURE(policy);
        Session session(policy_shape + "fp16 policy=" + policy + ",sinks=0,recent=0");
        session.ok("seq a data=3");
        feed(session, "a", 512, 64);
        int64_t protected_ones = 0;
        for (int layer = 0; layer < 2; ++layer)
            for (int head = 0; head < 2; ++head) {
                const std::vector<int64_t> kept = positions_of(session, "a", layer, head);
                CHECK(kept.size() == 64);
                protected_ones += std::count_if(kept.begin(), kept.end(), [](int64_t j) { return j < 4 || j >= 512 - 32; });
            }
        CHECK(protected_ones < 4 * 36);
    }
    Session bare(policy_shape + "fp16 policy=streaming:64,sinks=0");
    bare.ok("seq a data=3");
    bare.feed("a", 256, 64);
    CHECK(positions_of(bare, "a").front() == 256 - 64);
}

TEST_CASE("policies: steps, batches and threads change no bit") {
    for (const std::string& more :
         thinned<std::string>({",mass=page", "", ",mass=observed,observe=9", ",heads=ada", ",layers=pyramid", ",layers=2/1",
                               ",merge=values,merge_threshold=0.2,merge_bias=off", ",merge=keys+values,merge_threshold=none"}))
        for (const std::string& policy : policies(160, more)) {
            char canonical[256];
            if (kvc_policy_format(policy.c_str(), canonical, sizeof canonical, nullptr) == 0) continue;  // the key is not for it
            CAPTURE(policy);
            const std::string create = policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4 policy=" + policy;
            Session whole(create);
            whole.ok("seq a data=3");
            feed(whole, "a", 320, 64);
            Session pieces(create, {"", 2});
            pieces.ok("seq b data=9");
            pieces.ok("seq a data=3");
            feed(pieces, "b", 7, 7);
            for (int64_t left = 320; left > 0;) {
                const int64_t n = std::min({left, int64_t{23}, step_limit(pieces, "a"), step_limit(pieces, "b")});
                pieces.step("b:" + std::to_string(n) + " a:" + std::to_string(n));
                left -= n;
            }
            CHECK(whole.stored("a") == pieces.stored("a"));
        }
}

TEST_CASE("policies: kvc_evict at the boundaries gives what the policy does by itself") {
    for (const std::string& policy : policies(150)) {
        if (is_streaming(policy)) continue;  // by itself it moves by whole pages
        CAPTURE(policy);
        const std::string create = policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4 policy=" + policy;
        Session automatic(create), called(create + ",every=never");
        automatic.ok("seq a data=3");
        called.ok("seq a data=3");
        for (int64_t boundary = 64; boundary <= 448; boundary += 64) {
            // Says which queries are the last ones before kvc_evict.
            for (Session* each : {&automatic, &called})
                each->ok("prompt a end=" + std::to_string(boundary));
            feed(automatic, "a", 64, 64);
            feed(called, "a", 64, 29);
            if (boundary > 150) REQUIRE(evict_by_policy(called, "a") == KVC_OK);
            CHECK(automatic.stored("a") == called.stored("a"));
        }
    }
}

TEST_CASE("policies: at commit they act after every commit, whatever its length, as kvc_evict called there does") {
    for (const std::string& policy : policies(150)) {
        CAPTURE(policy);
        const std::string create = policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4 policy=" + policy;
        Session automatic(create + ",every=commit"), called(create + ",every=never");
        for (Session* each : {&automatic, &called})
            each->ok("seq a data=3");
        for (const int64_t tokens : {140, 10, 1, 1, 37, 64, 90, 3}) {
            for (Session* each : {&automatic, &called})
                each->step("a:" + std::to_string(tokens));
            const int64_t length = called.number("length a");
            if (length > 150) REQUIRE(evict_by_policy(called, "a") == KVC_OK);
            CHECK(automatic.stored("a") == called.stored("a"));
            for (int layer = 0; layer < 2; ++layer)
                for (int head = 0; head < 2; ++head)
                    CHECK(automatic.number("live " + head_words("a", layer, head)) == std::min<int64_t>(length, 150));
        }
    }
}

namespace {

// Positions that a policy keeps of 20 tokens whose queries all point where the keys of tokens 5, 9 and 12 do; and after 20 more alike.
std::pair<std::vector<int64_t>, std::vector<int64_t>> textbook(const char* policy) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1, options.kv_heads = 1, options.k_dim = 16, options.arena_tokens = 256;
    std::snprintf(options.codec, sizeof options.codec, "fp16");
    std::snprintf(options.policy, sizeof options.policy, "%s", policy);
    kvc_error error = {sizeof error, 0, ""};
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    const kvc_seq seq = kvc_seq_create(cache, nullptr, &error);
    std::vector<float> k(20 * 16), v(20 * 16, 1.0f), q(20 * 16), out(20 * 16);
    for (size_t t = 0; t < 20; ++t) {
        q[t * 16] = 64;
        k[t * 16] = t == 5 || t == 9 || t == 12 ? 1.0f : 0.0f;
    }
    std::vector<int64_t> kept[2];
    for (std::vector<int64_t>& now : kept) {
        const int64_t count = 20, bytes = count * 16 * 4;
        kvc_step* step = kvc_step_begin(cache, &seq, &count, 1, nullptr, 0, nullptr, &error);
        REQUIRE_MESSAGE(step != nullptr, error.message);
        REQUIRE(kvc_append(step, 0, k.data(), bytes, v.data(), bytes, &error) == KVC_OK);
        REQUIRE(kvc_attend(step, 0, q.data(), bytes, out.data(), bytes, nullptr, 0, nullptr, &error) == KVC_OK);
        REQUIRE(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
        now.resize(8);
        REQUIRE(kvc_seq_positions(cache, seq, 0, 0, now.data(), 8, nullptr, &error) == KVC_OK);
    }
    kvc_destroy(cache, nullptr);
    return {kept[0], kept[1]};
}

}  // namespace

TEST_CASE("h2o: sinks, heavy hitters and recent tokens stay, by position") {
    // 20 tokens, budget 8: 1 sink, 3 heavy, 4 recent.
    const auto [first, second] = textbook("h2o:8,sinks=1,recent=4,every=20");
    CHECK(first == std::vector<int64_t>{0, 5, 9, 12, 16, 17, 18, 19});
    // What was heavy and got its share again outlives the next boundary too: no younger token can catch up.
    CHECK(second == std::vector<int64_t>{0, 5, 9, 12, 36, 37, 38, 39});
    // Unprotected, the eight heaviest: beside the heavy ones the oldest, whom most queries saw.
    CHECK(textbook("h2o:8,sinks=0,recent=0,every=20").first == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 9, 12});
}

TEST_CASE("policies: a step across a boundary is refused and told how far it may go") {
    Session session(policy_shape + "fp16 policy=h2o:100");
    session.ok("seq a data=3");
    CHECK(step_limit(session, "a") == 64);
    session.step("a:50");
    CHECK(step_limit(session, "a") == 14);
    CHECK(session.status("begin t a:15") == "argument");
    CHECK(session.run("begin t a:15").message.find("14") != std::string::npos);
    CHECK(session.status("begin t a:14 partial_commit=1") == "argument");
    session.step("a:14");
    CHECK(step_limit(session, "a") == 64);
    // A rule of positions has no boundaries, and takes speculative steps.
    Session streaming(policy_shape + "fp16 policy=streaming:100");
    streaming.ok("seq a data=3");
    CHECK(step_limit(streaming, "a") > 1000000);
    streaming.ok("begin t a:500 partial_commit=1");
    streaming.ok("abort t");
}

TEST_CASE("policies: an aborted step leaves no trace") {
    for (const std::string& policy : policies(100)) {
        CAPTURE(policy);
        const std::string create = policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4 policy=" + policy;
        Session session(create), straight(create);
        for (Session* each : {&session, &straight}) {
            each->ok("seq a data=3");
            feed(*each, "a", 200, 64);
        }
        session.open("t", "a:56");
        session.ok("abort t");
        CHECK(session.stored("a") == straight.stored("a"));
        feed(session, "a", 120, 64);
        feed(straight, "a", 120, 64);
        CHECK(session.stored("a") == straight.stored("a"));
    }
}

TEST_CASE("streaming: any cut of the stream sees the same tokens and gives the same bits") {
    for (const std::string codec : {"fp16", "int4", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=3"})
        for (int spare : {0, 2}) {
            CAPTURE(codec);
            const std::string create = policy_shape + codec + " policy=streaming:4+100 spare_pages=" + std::to_string(spare);
            Session whole(create), pieces(create);
            for (Session* each : {&whole, &pieces})
                each->ok("seq a data=3");
            CHECK(whole.feed("a", 700, 700) == pieces.feed("a", 700, 37));
            CHECK(whole.stored("a") == pieces.stored("a"));
            std::vector<int64_t> expected{0, 1, 2, 3};
            for (int64_t j = 4 + (700 - 104) / 64 * 64; j < 700; ++j)
                expected.push_back(j);
            CHECK(positions_of(whole, "a", 1, 1) == expected);
        }
}

TEST_CASE("streaming: truncate and fork above the exact floor equal never happened") {
    const std::string create =
        policy_shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=4 policy=streaming:4+100 spare_pages=1";
    Session session(create);
    session.ok("seq a data=3");
    session.feed("a", 500, 64);
    const int64_t floor = session.number("floor a");
    CHECK(floor <= 500 - 64);
    Session straight(create);
    straight.ok("seq a data=3");
    straight.feed("a", floor, 64);
    session.ok("truncate a length=" + std::to_string(floor));
    CHECK(session.stored("a") == straight.stored("a"));
    CHECK(session.feed("a", 200, 64) == straight.feed("a", 200, 64));
}

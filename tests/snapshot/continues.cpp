// Law: an imported sequence goes on exactly as the exported one: outputs, mass, evictions, cuts, stored bytes, to the bit.
#include <memory>

#include "tests/laws/policy_session.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_laws;
using namespace kvc_snapshots;

namespace {

const std::string shape = " layers=2 kv_heads=2 q_heads=4 k_dim=48 v_dim=32 codec=";

// Everything that can be seen of the sequences.
Bytes seen(Session& session, const Names& names) {
    Bytes all;
    for (const std::string& name : names) {
        const Bytes stored = session.stored(name), floor = session.ok("floor " + name).bytes, stats = session.ok("stats " + name).bytes;
        for (const Bytes* part : {&stored, &floor, &stats})
            all.insert(all.end(), part->begin(), part->end());
    }
    return all;
}

template <typename Prepare, typename GoOn>
void continues(const std::string& create, const Names& names, const Prepare& prepare, const GoOn& go_on) {
    Session original(create), copy(create, {"", 2});
    prepare(original);
    const Bytes snapshot = carry(original, copy, names);
    CHECK(exported(copy, names) == snapshot);
    CHECK(seen(copy, names) == seen(original, names));
    CHECK(kinds(copy) == kinds(original));
    CHECK(go_on(copy) == go_on(original));
    CHECK(seen(copy, names) == seen(original, names));
    CHECK(kinds(copy) == kinds(original));
    CHECK(exported(copy, names) == exported(original, names));
}

Bytes feed_cut_and_feed(Session& session, const std::string& name) {
    Bytes all = session.feed(name, 70, 7);
    session.ok("truncate " + name + " length=" + std::to_string(session.number("floor " + name)));
    const Bytes more = session.feed(name, 90, 64);
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

}  // namespace

TEST_CASE("snapshot: every preset goes on from every boundary length") {
    for (const std::string& preset : presets())
        for (int64_t length : {0, 1, 2, 3, 4, 63, 64, 66, 67, 68, 71, 72, 73, 131, 136, 200}) {
            CAPTURE(preset);
            CAPTURE(length);
            continues(
                shape + short_window(preset, 5, 3) + " spare_pages=" + std::to_string(length % 2), {"a"},
                [&](Session& session) {
                    session.ok("seq a data=3 first_position=1000 prompt_length=40");
                    session.feed("a", length, 64, "accumulate=" + std::to_string(length % 3 == 0));
                },
                [](Session& session) { return feed_cut_and_feed(session, "a"); });
        }
}

TEST_CASE("snapshot: evicted and repacked sequences go on, cut too") {
    for (const std::string& preset : presets())
        for (int spare : {0, 2}) {
            CAPTURE(preset);
            CAPTURE(spare);
            continues(
                shape + short_window(preset, 5, 3) + " spare_pages=" + std::to_string(spare), {"a"},
                [&](Session& session) {
                    session.ok("seq a data=3");
                    session.feed("a", 500, 64);
                    session.ok("evict a scores=5 budget=90");
                    session.feed("a", 200, 64);
                    session.ok("evict a scores=6 budget=150 layers=0:1");
                },
                [](Session& session) {
                    Bytes all = session.feed("a", 130, 64);
                    session.ok("evict a scores=7 budget=100");
                    session.ok("truncate a length=460 cut=inexact");
                    const Bytes more = session.feed("a", 130, 50);
                    all.insert(all.end(), more.begin(), more.end());
                    return all;
                });
        }
}

TEST_CASE("snapshot: forks share their pages again") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        continues(
            shape + short_window(preset, 70, 3) + " spare_pages=1", {"c", "a", "b"},
            [&](Session& session) {
                session.ok("seq a data=3");
                session.feed("a", 400, 64);
                session.ok("evict a scores=5 budget=200");
                session.ok("fork b a length=400 data=7");
                session.ok("fork c a length=330 cut=inexact");
                session.feed("b", 60, 64);  // of lossless codecs: what is window in a are codes in b
            },
            [](Session& session) {
                Bytes all = session.step("a:60 b:3 c:70");
                session.ok("evict c scores=9 budget=120");
                session.ok("destroy b");
                session.ok("fork b a length=460");
                const Bytes more = session.step("b:80 a:1 c:64");
                all.insert(all.end(), more.begin(), more.end());
                return all;
            });
    }
}

TEST_CASE("snapshot: every policy goes on, between its boundaries and at them") {
    for (const std::string codec : {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=10,sinks=3"})
        for (const std::string& policy : policies(120))
            for (int64_t length : {320, 350, 0}) {
                CAPTURE(codec);
                CAPTURE(policy);
                CAPTURE(length);
                continues(
                    policy_shape + codec + " policy=" + policy, {"a"},
                    [&](Session& session) {
                        session.ok("seq a data=3");
                        feed(session, "a", length, 40);
                        REQUIRE(kvc_seq_budget_set(session.replay.cache(), session.replay.handle_of("a"), length == 350 ? 100 : 0,
                                                   nullptr) == KVC_OK);
                    },
                    [](Session& session) { return feed(session, "a", 200, 33); });
            }
}

TEST_CASE("snapshot: the policy's own budget is that of the sequence's context") {
    continues(
        policy_shape + "fp16 policy=h2o:25%", {"a"},
        [](Session& session) {
            session.ok("seq a data=3 prompt_length=400");
            feed(session, "a", 300, 64);
            REQUIRE(kvc_seq_budget_set(session.replay.cache(), session.replay.handle_of("a"), 150, nullptr) == KVC_OK);
        },
        [](Session& session) {
            REQUIRE(kvc_seq_budget_set(session.replay.cache(), session.replay.handle_of("a"), 0, nullptr) == KVC_OK);
            return feed(session, "a", 200, 64);
        });
}

TEST_CASE("snapshot: positions in the cache, keys before RoPE, sliding windows and layers that differ") {
    const std::string rope = " rope_theta=10000";
    const std::vector<std::string> creates = {
        shape + short_window("int4", 5, 3) + " policy=streaming:4+100 positions=in_cache" + rope,
        shape + "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3 keys=before pairs=interleaved" + rope,
        shape + short_window("int3", 5, 3) + " sliding_window=80 spare_pages=1",
        " layers=3 kv_heads=1 k_dim=32 codec=fp16;layer 1 kv_heads=3 q_heads=6 k_dim=48 v_dim=16 "
        "codec=k=f16,v=int4.tok,window=9,sinks=2;layer 2 sliding_window=70 codec=bf16"};
    for (const std::string& create : creates) {
        CAPTURE(create);
        const size_t split = create.find(';');
        const std::string in_order = split == std::string::npos ? create : create.substr(split + 1) + ";" + create.substr(0, split);
        continues(
            in_order, {"a"},
            [](Session& session) {
                session.ok("seq a data=3 first_position=77");
                session.feed("a", 400, 64);
            },
            [](Session& session) { return feed_cut_and_feed(session, "a"); });
    }
}

TEST_CASE("snapshot: the bytes are the same whatever target wrote them, and every target goes on from them") {
    for (const std::string& preset : presets()) {
        CAPTURE(preset);
        const std::string create = shape + short_window(preset, 5, 3);
        const auto prepared = [&](const std::string& on) {
            auto session = std::make_unique<Session>(create, kvc_scripts::RunOptions{on, 0});
            session->ok("seq a data=3");
            session->feed("a", 400, 64);
            session->ok("evict a scores=5 budget=150");
            return session;
        };
        const auto scalar = prepared("scalar");
        const Bytes bytes = exported(*scalar, {"a"});
        scalar->feed("a", 150, 64);
        for (const std::string& target : targets()) {
            CAPTURE(target);
            const auto own = prepared(target);
            CHECK(exported(*own, {"a"}) == bytes);
            const Imported imported = import(*own, bytes);
            REQUIRE(imported.status == KVC_OK);
            own->replay.adopt("b", imported.seqs[0], own->replay, "a");
            own->feed("b", 150, 64);
            CHECK(own->stored("b") == scalar->stored("a"));
        }
    }
}

TEST_CASE("snapshot: all sequences of a cache, in the order of their handles, also none") {
    const std::string create = shape + short_window("int4", 5, 3);
    Session session(create), copy(create);
    CHECK(import(copy, exported(session, {})).seqs.empty());
    for (const char* name : {"a", "b", "c"}) {
        session.ok(std::string("seq ") + name + " data=3");
        session.feed(name, 80 + name[0], 64);
    }
    session.ok("destroy a");
    session.ok("seq a data=9");
    Names order = {"a", "b", "c"};
    std::sort(order.begin(), order.end(),
              [&](const std::string& x, const std::string& y) { return session.replay.handle_of(x) < session.replay.handle_of(y); });
    int64_t bytes = 0;
    REQUIRE(kvc_snapshot_export(session.replay.cache(), nullptr, 0, nullptr, 0, &bytes, nullptr) == KVC_OK);
    Bytes all(static_cast<size_t>(bytes));
    REQUIRE(kvc_snapshot_export(session.replay.cache(), nullptr, 0, all.data(), bytes, &bytes, nullptr) == KVC_OK);
    CHECK(all == exported(session, order));
    CHECK(import(copy, all).seqs.size() == 3);
}

TEST_CASE("snapshot: an idle sequence gives its arena back and comes back") {
    for (const char* codec : {"int4", "fp16"}) {
        Session session(shape + codec);
        session.ok("seq a data=3");
        session.feed("a", 1000, 64);
        Session straight(shape + codec);
        straight.ok("seq a data=3");
        straight.feed("a", 1000, 64);
        const std::vector<int64_t> held = kinds(session);
        const Bytes away = exported(session, {"a"});
        CHECK(int64_t(away.size()) < held[0] + held[0] / 20 + 4096);
        session.ok("destroy a");
        CHECK(kinds(session) == std::vector<int64_t>(5));
        CHECK(session.stats()[1] == 0);
        const Imported back = import(session, away);
        REQUIRE(back.status == KVC_OK);
        session.replay.adopt("a", back.seqs[0], straight.replay, "a");
        CHECK(kinds(session) == held);
        CHECK(session.feed("a", 100, 10) == straight.feed("a", 100, 10));
        CHECK(session.stored("a") == straight.stored("a"));
    }
}

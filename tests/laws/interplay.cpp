// Law: a sequence that went through a snapshot, a fork, the prefix index or an aborted step goes on as one that did not, whatever is
// done to it in between: steps, partial commits, evictions by scores, lists and policies, merges, cuts. Every output and every stored
// number is compared, and so are siblings and entries that share pages with it, which never change.
#include <random>

#include "tests/laws/merge_session.h"
#include "tests/snapshot/carrier.h"

using namespace kvc_laws;

namespace {

struct Shape {
    std::string create;
    bool merges = true, partial = true, gaps = true;  // whether kvc_merge, partial commits and gaps between tokens are supported
};

class Pair {
public:
    Pair(const Shape& shape, uint64_t seed) : shape_(shape), random_(seed), plain_(shape.create), other_(shape.create, {"", 1}) {
        for (Session* session : {&plain_, &other_})
            session->ok("seq a data=3 first_position=100 prompt_length=" + std::to_string(prompt));
    }

    void run(int operations) {
        for (int i = 0; i < operations; ++i) {
            step();
            change();
            detour();
            REQUIRE(other_.stored("a") == plain_.stored("a"));
            REQUIRE(other_.number("floor a") == plain_.number("floor a"));
            REQUIRE(kvc_snapshots::exported(other_, {"a"}) == kvc_snapshots::exported(plain_, {"a"}));
            if (witness_.empty()) continue;
            REQUIRE(other_.stored("witness") == witness_);
        }
        for (const char* name : {"a", "witness"})
            if (name == std::string("a") || !witness_.empty()) other_.ok(std::string("destroy ") + name);
        other_.ok("prefix_clear");
        CHECK(other_.stats()[2] == 0);
        CHECK(other_.stats()[6] == 0);
    }

private:
    static constexpr int64_t prompt = 150, first = 100;

    int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
    int64_t length() { return plain_.number("length a") - first; }

    void step() {
        const int64_t tokens = std::min(pick(1, 100), step_limit(plain_, "a"));
        const bool partial = shape_.partial && pick(0, 3) == 0;
        const std::string words = "s a:" + std::to_string(tokens) + (partial ? " partial_commit=1" : "");
        const std::string accepted = partial ? " a:" + std::to_string(pick(0, tokens)) : "";
        CAPTURE(words);
        Bytes outs[2];
        for (Session* session : {&plain_, &other_}) {
            outs[session == &other_] = session->open("s", words.substr(2));
            session->ok("commit s" + accepted);
        }
        REQUIRE(outs[0] == outs[1]);
    }

    // The same on both sides; refusals too.
    void both(const std::string& line) {
        CAPTURE(line);
        const auto a = plain_.run(line), b = other_.run(line);
        REQUIRE(a.status == b.status);
    }

    void merge_both() {
        std::vector<int32_t> clusters;
        const int64_t n = length();
        const auto& shapes = plain_.replay.shapes();
        for (int64_t l = 0; l < shapes.options.layers; ++l)
            for (int64_t h = 0; h < shapes.layers[size_t(l)].kv_heads; ++h) {
                const int64_t sinks = 4, stays = std::max<int64_t>(sinks, n - 220), share = pick(1, 3);
                std::vector<int64_t> live = positions_of(plain_, "a", int(l), int(h));
                std::vector<int32_t> row(size_t(n), -1);
                std::vector<int32_t> kept;
                for (const int64_t position : live) {
                    const auto i = int32_t(position - first);
                    const bool leaves = i >= sinks && i < stays && pick(0, 3) < share;
                    if (!leaves) kept.push_back(i), row[size_t(i)] = i;
                }
                for (const int64_t position : live) {
                    const auto i = size_t(position - first);
                    if (row[i] == -1 && pick(0, 3) > 0) row[i] = kept[size_t(pick(0, int64_t(kept.size()) - 1))];
                }
                clusters.insert(clusters.end(), row.begin(), row.end());
            }
        const bool values_only = pick(0, 1), unbiased = pick(0, 3) == 0;
        const Merge a = merge(plain_, "a", clusters, values_only, unbiased), b = merge(other_, "a", clusters, values_only, unbiased);
        REQUIRE(a.message == b.message);
        REQUIRE(a.report.tokens_merged == b.report.tokens_merged);
        REQUIRE(a.report.tokens_evicted == b.report.tokens_evicted);
        if (a.status == KVC_OK) merged_ += a.report.tokens_merged;
    }

    void change() {
        const int64_t n = length();
        switch (pick(0, 7)) {
        case 0:
            if (shape_.gaps) both("evict a scores=" + std::to_string(pick(1, 99)) + " budget=" + std::to_string(pick(200, 400)));
            break;
        case 1:
            if (shape_.merges) merge_both();
            break;
        case 2:
        case 3:
            both("truncate a length=" + std::to_string(pick(plain_.number("floor a"), first + n)));
            break;
        case 4:
            both("truncate a cut=inexact length=" + std::to_string(pick(std::max(first, first + n - 150), first + n)));
            break;
        case 5:
            if (shape_.gaps) both("keep a positions=" + std::to_string(first + n / 2) + "," + std::to_string(first + n - 1));
            break;
        default:
            break;
        }
    }

    // On one side only.
    void detour() {
        const int64_t n = length();
        const std::string at = std::to_string(first + n);
        const auto take = [&](const std::string& name, kvc_seq seq) { other_.replay.adopt(name, seq, plain_.replay, "a"); };
        switch (pick(0, 7)) {
        case 0: {
            const Bytes snapshot = kvc_snapshots::exported(other_, {"a"});
            other_.ok("destroy a");
            const kvc_snapshots::Imported imported = kvc_snapshots::import(other_, snapshot);
            REQUIRE_MESSAGE(imported.status == KVC_OK, imported.message);
            take("a", imported.seqs.at(0));
            break;
        }
        case 1:
            other_.ok("fork b a length=" + at);
            other_.ok("destroy a");
            take("a", other_.replay.handle_of("b"));
            break;
        case 2: {
            if (n == 0) break;
            const int64_t text = texts_++;
            const std::string key = " text=" + std::to_string(text) + " n=";
            other_.ok("publish a" + key + std::to_string(n));
            other_.ok("destroy a");
            const auto hit = other_.ok("lookup b" + key + std::to_string(n + 1) + " data=3 first_position=" + std::to_string(first) +
                                       " prompt_length=" + std::to_string(prompt));
            REQUIRE(hit.numbers.at(0) == n);
            take("a", other_.replay.handle_of("b"));
            break;
        }
        case 3:
            if (!witness_.empty()) other_.ok("destroy witness");
            other_.ok("fork witness a length=" + at);
            witness_ = other_.stored("witness");
            break;
        case 4:
            other_.open("t", "a:" + std::to_string(std::min(pick(0, 90), step_limit(other_, "a"))));
            other_.ok("abort t");
            break;
        case 5: {  // a hit below the entry's length is a cut
            if (n == 0) break;
            const int64_t cut = pick(plain_.number("floor a"), first + n) - first;
            if (cut == 0) break;
            const std::string key = " text=" + std::to_string(texts_++) + " n=";
            other_.ok("publish a" + key + std::to_string(n));
            const auto hit = other_.ok("lookup b" + key + std::to_string(cut + 1) + " data=3 first_position=" + std::to_string(first) +
                                       " prompt_length=" + std::to_string(prompt));
            REQUIRE(hit.numbers.at(0) == cut);
            other_.ok("destroy a");
            take("a", other_.replay.handle_of("b"));
            plain_.ok("truncate a length=" + std::to_string(first + cut));
            break;
        }
        case 6:
            other_.ok("prefix_clear");
            break;
        default:
            break;
        }
    }

    const Shape shape_;
    std::mt19937_64 random_;
    Session plain_, other_;
    Bytes witness_;
    int64_t texts_ = 0, merged_ = 0;
};

}  // namespace

TEST_CASE("interplay: detours through snapshots, forks, prefixes and aborted steps change nothing") {
    const std::string heads = " layers=2 kv_heads=2 q_heads=4 k_dim=32 codec=";
    std::vector<Shape> shapes;
    for (const std::string& preset : presets())
        shapes.push_back({heads + short_window(preset, 20, 4)});
    shapes.push_back({heads + short_window("int4", 20, 4) + " spare_pages=2", false});
    shapes.push_back({"layer 1 sliding_window=90 codec=int8;" + heads + short_window("int4", 20, 4)});
    shapes.push_back({heads + "fp16 sliding_window=100"});
    shapes.push_back({heads + short_window("int4", 20, 4) + " sliding_window=70 spare_pages=1", false});
    shapes.push_back({heads + short_window("int4", 20, 4) + " keys=before rope_theta=10000"});
    shapes.push_back({heads + "fp16 keys=before positions=in_cache rope_theta=10000", false, true, false});
    for (const std::string codec : {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=20,sinks=4"})
        for (const std::string& merging :
             thinned<std::string>({"", ",merge=values,merge_threshold=0.1", ",merge=keys+values,merge_threshold=none"}))
            for (const std::string& policy : policies(200)) {
                if (is_streaming(policy) && !merging.empty()) continue;
                const bool attends =
                    policy.find("key_") == std::string::npos && policy.find("cluster") == std::string::npos && !is_streaming(policy);
                shapes.push_back({heads + codec + " policy=" + policy + merging, true, !attends});
            }
    for (const Shape& shape : shapes)
        for (uint64_t seed = 1; seed <= (laws_are_thinned() ? 1 : 2); ++seed) {
            CAPTURE(shape.create);
            CAPTURE(seed);
            Pair(shape, seed).run(laws_are_thinned() ? 6 : 12);
        }
}
namespace {

const std::string one_head = " layers=1 kv_heads=1 q_heads=1 k_dim=32 codec=k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=20,sinks=3";

// Tokens that nothing attends to.
void append_only(Session& session, const std::string& name, int64_t tokens) {
    for (int64_t n; tokens > 0; tokens -= n) {
        n = std::min<int64_t>(tokens, 512);
        session.ok("begin f " + name + ":" + std::to_string(n));
        for (int64_t l = 0; l < session.replay.shapes().options.layers; ++l)
            session.ok("append f seed=1 layer=" + std::to_string(l));
        session.ok("commit f");
    }
}

// A sequence that takes all room that is left.
void fill(Session& session) {
    session.ok("seq filler data=9");
    kvc_seq_budget_set(session.replay.cache(), session.replay.handle_of("filler"), 100000, nullptr);
    for (const char* tokens : {"64", "1"})
        while (session.status(std::string("begin f filler:") + tokens) == "ok") {
            for (int64_t l = 0; l < session.replay.shapes().options.layers; ++l)
                session.ok("append f seed=1 layer=" + std::to_string(l));
            session.ok("commit f");
        }
}

}  // namespace

TEST_CASE("interplay: what a policy had to put off does not follow a cut to lengths at which it was not due") {
    const std::string create = " k_dim=32 codec=k=int8.tok,v=int8.tok,window=20,sinks=8 policy=key_norm:120,every=64";
    Session fresh(create);
    fresh.ok("seq a data=3");
    feed(fresh, "a", 170, 50);
    const Bytes stored = fresh.stored("a");
    const Bytes out = fresh.step("a:20");
    for (const std::string way : {"truncate", "fork", "lookup"}) {
        CAPTURE(way);
        Session session(create + " growth=0 arena_bytes=524288");
        session.ok("seq a data=3");
        feed(session, "a", 191, 50);
        fill(session);
        session.step("a:1");
        REQUIRE(positions_of(session, "a").size() == 184);  // no room for the positions of a repacked page
        session.ok("destroy filler");
        if (way == "truncate") session.ok("truncate a length=170");
        if (way == "fork") session.ok("fork b a length=170");
        if (way == "lookup") session.ok("publish a text=1 n=192");
        if (way == "lookup") session.ok("lookup b text=1 n=171 data=3");
        const std::string name = way == "truncate" ? "a" : "b";
        CHECK(session.stored(name) == stored);
        CHECK(session.step(name + ":20") == out);
        CHECK(positions_of(session, name).size() == 182);
    }
}

TEST_CASE("interplay: what a policy had to put off stays due in the layers that an eviction left out") {
    Session session(
        " layers=2 k_dim=32 codec=k=int8.tok,v=int8.tok,window=20,sinks=8 policy=key_norm:120,every=64"
        " growth=0 arena_bytes=524288");
    session.ok("seq a data=3");
    feed(session, "a", 191, 50);
    fill(session);
    session.step("a:1");
    REQUIRE(positions_of(session, "a", 1).size() == 184);
    session.ok("destroy filler");
    session.ok("evict a layers=0:1");
    CHECK(positions_of(session, "a", 0).size() == 120);
    CHECK(positions_of(session, "a", 1).size() == 184);
    session.step("a:1");
    CHECK(positions_of(session, "a", 0).size() == 121);
    CHECK(positions_of(session, "a", 1).size() == 121);
}

TEST_CASE("interplay: a step of which nothing is accepted does not make a policy act") {
    for (const char* every : {"64", "commit"}) {
        CAPTURE(every);
        Session session(one_head + " policy=key_norm:200,every=" + every);
        session.ok("seq a data=3");
        feed(session, "a", 256, 64);
        REQUIRE(kvc_seq_budget_set(session.replay.cache(), session.replay.handle_of("a"), 120, nullptr) == KVC_OK);
        const Bytes before = kvc_snapshots::exported(session, {"a"});
        session.open("s", "a:5 partial_commit=1");
        session.ok("commit s a:0");
        CHECK(kvc_snapshots::exported(session, {"a"}) == before);
    }
}

TEST_CASE("interplay: an aborted step leaves no trace in a snapshot, whatever the policy gathers") {
    for (const std::string& policy : policies(120)) {
        CAPTURE(policy);
        Session session(one_head + " policy=" + policy);
        session.ok("seq a data=3");
        const Bytes before = kvc_snapshots::exported(session, {"a"});
        session.open("s", "a:50");
        session.ok("abort s");
        CHECK(kvc_snapshots::exported(session, {"a"}) == before);
    }
}

TEST_CASE("interplay: an import drops the least recently used prefixes, as few as make room, and none where all would not") {
    Session source(one_head), session(one_head + " growth=0 arena_bytes=524288");
    source.ok("seq a data=3");
    append_only(source, "a", 5000);
    const Bytes snapshot = kvc_snapshots::exported(source, {"a"});
    int64_t texts = 0;
    for (; session.ok("prefix_stats").numbers[7] == 0; texts++) {  // until one was dropped
        session.ok("seq w data=" + std::to_string(texts));
        session.feed("w", 100, 100);
        session.ok("publish w n=100 text=" + std::to_string(texts));
        session.ok("destroy w");
    }
    const std::vector<int64_t> full = session.ok("prefix_stats").numbers;
    const kvc_snapshots::Imported imported = kvc_snapshots::import(session, snapshot);
    REQUIRE_MESSAGE(imported.status == KVC_OK, imported.message);
    session.replay.adopt("a", imported.seqs.at(0), source.replay, "a");
    CHECK(session.stored("a") == source.stored("a"));
    const std::vector<int64_t> after = session.ok("prefix_stats").numbers;
    CHECK(after[0] > 0);
    CHECK(after[0] < full[0]);
    CHECK(after[0] + after[7] == full[0] + full[7]);
    session.ok("lookup newest n=100 text=" + std::to_string(texts - 1));
    CHECK(session.number("length newest") == 99);
    session.ok("destroy newest");
    const int64_t entries = session.ok("prefix_stats").numbers[0];
    // More than the arena could hold: nothing is given up for it.
    append_only(source, "a", 10000);
    const kvc_snapshots::Imported refused = kvc_snapshots::import(session, kvc_snapshots::exported(source, {"a"}));
    CHECK(refused.status == KVC_E_NO_MEMORY);
    CHECK(session.ok("prefix_stats").numbers[0] == entries);
}

TEST_CASE("interplay: a refused import leaves a cache as young as it was") {
    const std::string rope = " keys=before rope_theta=10000";
    Session source(one_head + rope), session(one_head + rope + " growth=0 arena_bytes=131072");
    source.ok("seq a data=3");
    append_only(source, "a", 5000);
    CHECK(kvc_snapshots::import(session, kvc_snapshots::exported(source, {"a"})).status == KVC_E_NO_MEMORY);
    const std::vector<double> frequencies(size_t(session.replay.shapes().layers[0].k_dim / 2), 0.5);
    CHECK(kvc_rope_frequencies_set(session.replay.cache(), 0, frequencies.data(), int64_t(frequencies.size()), nullptr) == KVC_OK);
}

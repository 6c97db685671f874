// Law: a budget in bytes bounds the records of a sequence after every step and every eviction, whatever prefix it began with and wherever
// it was cut: sealed hits and cuts below the exact floor hold codes, half empty at worst, in the place of a window.
#include <random>

#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

// Random caches with a budget in bytes, and what is done to one sequence of each.
class Walk {
public:
    explicit Walk(uint64_t seed) : random_(seed) {}

    int64_t between(int64_t least, int64_t most) { return least + int64_t(random_() % uint64_t(most - least + 1)); }
    template <class T>
    T pick(std::initializer_list<T> from) {
        return from.begin()[between(0, int64_t(from.size()) - 1)];
    }

    // Without the budget. Lossless codecs pin no sinks, so that policies may.
    void choose_shape() {
        const std::string part =
            pick<std::string>({"k=int8.ch.g32.m8,v=int8.tok.rot.sym", "k=int8.ch.g32.m8,v=int8.tok.rot.sym",
                               "k=int8.tok.rot.sym,v=int8.tok.rot.sym", "k=int4.ch.g32.m8,v=int4.tok.rot.ls",
                               "k=int2.tok.rot.ls,v=int2.tok.rot.ls", "k=f16,v=int8.tok", "k=f16,v=f16", "k=int8.ch,v=int4.tok"});
        const bool lossless = part == "k=f16,v=f16";
        window = pick<int64_t>({0, 10, 64, 200, 1024, 1024});
        sinks = pick<int64_t>({0, 4, 5, 64});
        sealable = !lossless;
        create = " layers=" + std::to_string(between(1, 2)) + " kv_heads=" + std::to_string(between(1, 2)) +
                 " k_dim=" + std::to_string(pick<int64_t>({16, 32, 32, 64, 128})) + " codec=" + part +
                 ",window=" + std::to_string(window) + ",sinks=" + std::to_string(sinks);
        policy = pick<std::string>({"h2o", "mean_attention", "key_norm", "key_norm", "key_diversity", "tova", "streaming", "given"});
        more = policy == "given"       ? ",every=never"
               : policy == "streaming" ? ""
                                       : pick<std::string>({"", "", ",every=96", ",every=16", ",every=commit"});
        if (sinks == 0) more += ",sinks=0";
        if (!is_streaming(policy)) more += pick<std::string>({"", ",recent=0"});
        const int64_t variant = between(0, 7);
        if (variant == 0 && !lossless) create += " spare_pages=" + std::to_string(between(1, 2));
        if (variant == 1 && !is_streaming(policy)) more += ",merge=keys+values,merge_threshold=none";
        if (variant == 2 && !is_streaming(policy)) more += ",heads=ada";
        if (variant == 3) more += ",layers=pyramid";
        turns = between(0, 1) == 1;
    }

    // The least that holds what must stay, or somewhat more.
    void choose_limit() {
        for (limit = 4096; limit < (1 << 24); limit += limit / 8) {
            kvc_scripts::Replay replay{kvc_scripts::RunOptions{}};
            if (replay.run(kvc_scripts::parse("create growth=1" + words()).at(0)).status == KVC_OK) break;
        }
        limit += limit * between(0, 40) / 100;
    }
    std::string words() const { return create + " policy=" + policy + ":" + std::to_string(limit) + "B" + more; }
    bool acts_by_itself() const { return policy != "given"; }

    std::string create, policy, more;
    int64_t window = 0, sinks = 0, limit = 0;
    bool sealable = false, turns = false;

private:
    std::mt19937_64 random_;
};

int64_t record_bytes(Session& session) { return session.ok("stats a").numbers[1]; }

// The sequence becomes a hit of an entry that was sealed at its length.
void seal(Session& session, int64_t length) {
    session.ok("publish a seal=1 text=3 n=" + std::to_string(length));
    REQUIRE(session.ok("lookup b data=3 text=3 n=" + std::to_string(length + 1)).numbers[0] == length);
    session.ok("destroy a");
    session.ok("prefix_clear");
    session.ok("fork a b length=" + std::to_string(length));
    session.ok("destroy b");
}

struct Stream {
    Session& session;
    Walk& walk;
    int64_t length = 0, most = 0;

    void check(const std::string& after) {
        const int64_t held = record_bytes(session);
        most = std::max(most, held);
        CAPTURE(after);
        CAPTURE(length);
        REQUIRE(held <= walk.limit);
    }
    void feed_one(int64_t tokens) {
        for (int64_t n = 0; tokens > 0; tokens -= n) {
            n = std::min(tokens, step_limit(session, "a"));
            session.step("a:" + std::to_string(n));
            length += n;
            if (walk.acts_by_itself()) check("step");
        }
    }
    // Scores that leave some tokens of every page, or whole ages; the policy's own budget.
    void evict() {
        session.ok("evict a scores=" + std::to_string(walk.between(1, 1000)));
        check("evict");
    }
    void seal_here() {
        const int64_t past = (length - walk.sinks) % 64;
        if (length < walk.sinks) feed_one(walk.sinks - length);
        if (length > walk.sinks && past != 0) feed_one(64 - past);
        if (walk.sealable) seal(session, length);
        if (walk.acts_by_itself()) check("seal");
    }
    void cut() {
        const int64_t to = length - walk.between(0, std::min<int64_t>(length - 1, walk.window + 300));
        if (session.status("truncate a cut=inexact length=" + std::to_string(to)) != "ok") return;  // pages that left
        length = to;
        if (walk.acts_by_itself()) check("cut");
    }
    // A conversation whose turns are sealed, or anything at random.
    void act() {
        const int64_t what = walk.turns ? walk.between(0, 1) : walk.between(2, 9);
        if (what == 2) return cut();
        if (what == 3) return evict();
        if (what == 4) return seal_here();
        feed_one(walk.turns || what > 6 ? walk.between(30, 190) : walk.between(1, 30));
        if (walk.turns) seal_here();
    }
};

}  // namespace

TEST_CASE("byte budgets: they hold after every step and eviction, in sealed hits and behind inexact cuts, too") {
    const int walks = thinned_walks(60);
    int filled = 0;
    for (int seed = 1; seed <= walks; ++seed) {
        Walk walk{uint64_t(seed)};
        do
            walk.choose_shape();
        while (!is_served(walk.create));
        walk.choose_limit();
        CAPTURE(seed);
        CAPTURE(walk.words());
        Session session(walk.words());
        session.ok("seq a data=3");
        Stream stream{session, walk};
        for (int64_t windows = walk.between(1, walk.acts_by_itself() ? 2 : 4); windows > 0; --windows)
            stream.feed_one(walk.sinks + walk.window + walk.between(1, 300));
        for (int i = 0; i < (laws_are_thinned() ? 10 : 40); ++i)
            stream.act();
        stream.evict();
        filled += stream.most >= walk.limit * 3 / 4;
    }
    CHECK(filled >= walks / 4);  // and use what they may
}

TEST_CASE("byte budgets: without a window, what is scattered nearly fills them") {
    for (const auto& [dim, limit] : {std::pair<int64_t, int64_t>{16, 120 * 1024}, {32, 200 * 1024}})
        for (const bool sealed : {false, true}) {
            CAPTURE(limit);
            CAPTURE(sealed);
            const int64_t length = 4 + 64 * 74;
            Session session(" kv_heads=1 k_dim=" + std::to_string(dim) +
                            " codec=k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=1024,sinks=4 policy=given:" + std::to_string(limit) +
                            "B,every=never");
            session.ok("seq a data=3");
            session.feed("a", sealed ? length : length + 64 * 20, 512);
            if (sealed) seal(session, length);
            if (!sealed) session.ok("truncate a cut=inexact length=" + std::to_string(length));
            for (const char* seed : {"5", "6"}) {
                session.ok(std::string("evict a scores=") + seed);
                CHECK(record_bytes(session) <= limit);
                CHECK(record_bytes(session) >= limit * 5 / 6);
            }
        }
}

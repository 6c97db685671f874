// Law: under a rule of positions what has left stays away, whatever budgets, evictions and cuts follow, and a smaller budget frees its
// pages at once.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/laws/policy_session.h"

using namespace kvc_laws;

namespace {

kvc_status set_budget(Session& session, int64_t budget) {
    return kvc_seq_budget_set(session.replay.cache(), session.replay.handle_of("a"), budget, nullptr);
}

constexpr size_t sinks = 4;

bool is_lossless(const std::string& shape) { return shape.find("fp16") != std::string::npos; }

struct Held {
    std::vector<int64_t> positions;

    explicit Held(Session& session) : positions(positions_of(session, "a")) {}
    // Breaks between neighbours behind the sinks.
    int64_t gaps() const {
        int64_t count = 0;
        for (size_t i = sinks + 1; i < positions.size(); i++)
            count += positions[i] != positions[i - 1] + 1;
        return count;
    }
    bool within(const Held& other) const {
        return std::includes(other.positions.begin(), other.positions.end(), positions.begin(), positions.end());
    }
};

// What must not be seen again: what budgets and evictions took, for good; and what growth had left behind at some length, down to that length.
class Absences {
public:
    explicit Absences(const Held& held, int64_t length) { grown(held, length); }
    void taken(const Held& before, const Held& after) {
        std::set_difference(before.positions.begin(), before.positions.end(), after.positions.begin(), after.positions.end(),
                            std::inserter(gone_, gone_.end()));
    }
    void grown(const Held& held, int64_t length) {
        std::set<int64_t>& absent = absent_at_[length];
        for (int64_t p = 0; p < length; p++)
            if (!std::binary_search(held.positions.begin(), held.positions.end(), p)) absent.insert(p);
    }
    void cut(int64_t length) {
        absent_at_.erase(absent_at_.upper_bound(length), absent_at_.end());
        gone_.erase(gone_.lower_bound(length), gone_.end());  // other tokens will have these positions
    }
    std::vector<int64_t> back_in(const Held& held) const {
        std::vector<int64_t> back;
        for (const int64_t p : held.positions) {
            const auto absent = [p](const auto& at) { return at.second.count(p) > 0; };
            if (gone_.count(p) || std::any_of(absent_at_.begin(), absent_at_.end(), absent)) back.push_back(p);
        }
        return back;
    }

private:
    std::set<int64_t> gone_;
    std::map<int64_t, std::set<int64_t>> absent_at_;  // by length
};

std::vector<std::string> shapes() {
    std::vector<std::string> all;
    for (const std::string codec : {"fp16", "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=20,sinks=4"})
        for (const std::string spare : {"0", "2"})
            all.push_back(" layers=2 kv_heads=2 q_heads=2 k_dim=32 codec=" + codec + " spare_pages=" + spare);
    return all;
}

}  // namespace

TEST_CASE("streaming budgets: a smaller one frees its pages at once, a larger one brings nothing back") {
    for (const std::string& shape : shapes()) {
        CAPTURE(shape);
        Session session(shape + " policy=streaming:600"), small(shape + " policy=streaming:200");
        for (Session* each : {&session, &small}) {
            each->ok("seq a data=3");
            feed(*each, "a", 1000, 100);
        }
        const Held before(session);
        REQUIRE(set_budget(session, 200) == KVC_OK);
        const Held lowered(session);
        CHECK(lowered.positions == Held(small).positions);
        CHECK(session.stats()[2] <= small.stats()[2]);  // no spare pages are left for rollbacks, which are over
        CHECK(evict_by_policy(session, "a") == KVC_OK);
        const Held evicted(session);
        CHECK(evicted.within(lowered));
        for (const int64_t budget : {700, 0, 2000}) {
            REQUIRE(set_budget(session, budget) == KVC_OK);
            CHECK(Held(session).positions == evicted.positions);
        }
        feed(session, "a", 300, 100);
        const Held grown(session);
        CHECK(grown.positions.size() == evicted.positions.size() + 300);
        CHECK(grown.gaps() == 0);
        // What left does not come back by a cut, and does not stand in its way either.
        const int64_t floor = session.number("floor a");
        CHECK(floor >= 1000);
        if (is_lossless(shape)) CHECK(floor == 1000);
        session.ok("truncate a length=1299 cut=inexact");
        session.ok("truncate a length=" + std::to_string(floor));
        CHECK(session.status("truncate a length=" + std::to_string(floor - 1)) == "range");
        session.ok("truncate a cut=inexact length=950");
        CHECK(Held(session).within(evicted));
        CHECK(session.status("truncate a cut=inexact length=300") == "range");
        feed(session, "a", 100, 100);
        CHECK(Held(session).gaps() == 0);
    }
}

TEST_CASE("streaming budgets: growth after a larger budget equals a cut back to it and growth again") {
    for (const std::string& shape : shapes()) {
        CAPTURE(shape);
        if (!is_lossless(shape)) continue;  // codes have a floor of their own
        Session straight(shape + " policy=streaming:200"), detour(shape + " policy=streaming:200");
        for (Session* each : {&straight, &detour}) {
            each->ok("seq a data=3");
            feed(*each, "a", 700, 100);
            REQUIRE(set_budget(*each, 500) == KVC_OK);
        }
        feed(detour, "a", 90, 45);
        detour.ok("truncate a length=700");
        CHECK(straight.stored("a") == detour.stored("a"));
        CHECK(feed(straight, "a", 90, 45) == feed(detour, "a", 90, 45));
        // Beyond the larger budget pages leave again, and cuts that would need them are refused.
        feed(straight, "a", 900, 100);
        CHECK(straight.status("truncate a length=800") == "range");
        CHECK(straight.number("floor a") > 1100);
    }
}

TEST_CASE("streaming budgets: whatever follows, no token comes back and in-cache positions have one gap") {
    for (const std::string positions : {"true", "in_cache"})
        for (const std::string& shape : shapes())
            for (uint64_t seed = 1; seed <= 6; seed++) {
                CAPTURE(shape + " positions=" + positions);
                CAPTURE(seed);
                std::mt19937_64 random(seed);
                const auto pick = [&](int64_t low, int64_t high) { return low + int64_t(random() % uint64_t(high - low + 1)); };
                const std::string turned = positions == "in_cache" ? " keys=before rope_theta=10000" : "";
                Session session(shape + " policy=streaming:400 positions=" + positions + turned);
                session.ok("seq a data=3");
                feed(session, "a", 900, 100);
                Absences absences(Held(session), 900);
                for (int i = 0; i < 12; i++) {
                    const Held before(session);
                    const int64_t length = session.number("length a");
                    CAPTURE(i);
                    switch (pick(0, 4)) {
                    case 0:
                        REQUIRE(set_budget(session, pick(150, 700)) == KVC_OK);
                        break;
                    case 1:
                        CHECK(evict_by_policy(session, "a") == KVC_OK);
                        break;
                    case 2:
                        session.run("evict a budget=" + std::to_string(pick(120, 300)));
                        break;
                    case 3:
                        session.run("truncate a cut=inexact length=" + std::to_string(pick(length - 150, length)));
                        break;
                    default:
                        feed(session, "a", pick(1, 90), 100);
                    }
                    const Held after(session);
                    const int64_t now = session.number("length a");
                    if (now < length) absences.cut(now);  // pages below what was seen may be there for it
                    if (now == length) absences.taken(before, after);
                    CHECK(absences.back_in(after).empty());
                    absences.grown(after, now);
                    CHECK(after.gaps() == 0);
                }
            }
}

TEST_CASE("streaming budgets: the cache's own policy never refuses what its own rule keeps") {
    for (const std::string& codec : presets()) {
        CAPTURE(codec);
        Session session(" kv_heads=1 k_dim=64 codec=" + codec + " policy=streaming:150");
        session.ok("seq a data=3");
        feed(session, "a", 700, 100);
        const Held before(session);
        CHECK(evict_by_policy(session, "a") == KVC_OK);
        CHECK(Held(session).within(before));
        feed(session, "a", 100, 100);
    }
}

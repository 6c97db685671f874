// Threads: calls of several threads on one sequence are as if made one after the other, in an order that respects who had returned before
// whom began. A short history of calls is recorded, and an order that explains every answer is searched for.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "kvc.h"

namespace {

constexpr int64_t dim = 32;
constexpr int threads = 3, turns = 7;

enum class Verb { begin, commit, abort, truncate, length, fork };

struct Call {
    Verb verb;
    int64_t number = 0;  // begin: tokens; truncate and fork: length
    int64_t value = 0;   // begin: what the tokens hold
    int64_t start = 0, end = 0;
    kvc_status status = KVC_OK;
    std::vector<int64_t> answer;  // length: the length; fork: the values of its tokens
};

using History = std::vector<std::vector<Call>>;  // [threads][calls]

// What one thread alone would see: the values of the committed tokens, and those of the open step.
struct State {
    std::vector<int64_t> tokens, pending;
    bool open = false;
    bool operator<(const State& other) const {
        return std::tie(tokens, pending, open) < std::tie(other.tokens, other.pending, other.open);
    }
};

// Whether the call may answer so in this state, which it changes.
bool explains(State& state, const Call& call) {
    const int64_t length = int64_t(state.tokens.size());
    switch (call.verb) {
    case Verb::begin:
        if (state.open) return call.status == KVC_E_BUSY;
        state.open = true;
        state.pending.assign(size_t(call.number), call.value);
        return call.status == KVC_OK;
    case Verb::commit:
    case Verb::abort:
        if (call.verb == Verb::commit) state.tokens.insert(state.tokens.end(), state.pending.begin(), state.pending.end());
        state.open = false;
        return call.status == KVC_OK;
    case Verb::truncate:
        if (state.open) return call.status == KVC_E_BUSY;
        if (call.number > length) return call.status == KVC_E_RANGE;
        state.tokens.resize(size_t(call.number));
        return call.status == KVC_OK;
    case Verb::length:
        return call.status == KVC_OK && call.answer == std::vector<int64_t>{length};
    case Verb::fork:
        if (state.open) return call.status == KVC_E_BUSY;
        if (call.number > length) return call.status == KVC_E_RANGE;
        return call.status == KVC_OK && call.answer == std::vector<int64_t>(state.tokens.begin(), state.tokens.begin() + call.number);
    }
    return false;
}

class Search {
public:
    explicit Search(const History& history) : history_(history), next_(history.size(), 0) {}
    bool linearizable() { return go({}); }

private:
    bool go(const State& state) {
        if (!seen_.insert({next_, state}).second) return false;
        int64_t first_end = INT64_MAX;  // whatever began after this waits
        for (size_t t = 0; t < history_.size(); t++)
            if (next_[t] < history_[t].size()) first_end = std::min(first_end, history_[t][next_[t]].end);
        if (first_end == INT64_MAX) return true;
        for (size_t t = 0; t < history_.size(); t++) {
            if (next_[t] == history_[t].size() || history_[t][next_[t]].start > first_end) continue;
            State after = state;
            if (!explains(after, history_[t][next_[t]])) continue;
            next_[t]++;
            if (go(after)) return true;
            next_[t]--;
        }
        return false;
    }

    const History& history_;
    std::vector<size_t> next_;
    std::set<std::pair<std::vector<size_t>, State>> seen_;
};

class Recorder {
public:
    Recorder(kvc_cache* cache, kvc_seq seq, std::atomic<int64_t>& clock, uint32_t seed)
        : cache_(cache), seq_(seq), clock_(clock), random_(seed) {}

    std::vector<Call> run() {
        for (int turn = 0; turn < turns; turn++) {
            const int64_t number = int64_t(random_() % 6);
            switch (random_() % 5) {
            case 0:
                truncate(number);
                break;
            case 1:
                record({Verb::length}, [&](Call& call) {
                    call.answer = {0};
                    return kvc_seq_length(cache_, seq_, call.answer.data(), nullptr);
                });
                break;
            case 2:
                fork(number);
                break;
            default:
                step(1 + number % 3);
            }
        }
        return calls_;
    }

private:
    template <class F>
    const Call& record(Call call, F make) {
        call.start = clock_++;
        if (random_() % 2) std::this_thread::yield();  // so that they meet on a busy machine too
        call.status = make(call);
        if (random_() % 2) std::this_thread::yield();
        call.end = clock_++;
        calls_.push_back(call);
        return calls_.back();
    }

    void truncate(int64_t number) {
        record({Verb::truncate, number}, [&](Call&) { return kvc_seq_truncate(cache_, seq_, number, KVC_CUT_EXACT, nullptr); });
    }

    void fork(int64_t number) {
        kvc_seq fork = 0;
        record({Verb::fork, number}, [&](Call& call) {
            kvc_error err = {sizeof err, 0, {}};
            fork = kvc_seq_fork(cache_, seq_, number, KVC_CUT_EXACT, &err);
            std::vector<float> rows(size_t(number * dim));
            if (fork && number > 0 &&
                kvc_seq_read(cache_, fork, 0, 0, KVC_KEYS, 0, number, rows.data(), number * dim * 4, &err) != KVC_OK)
                return KVC_E_INTERNAL;
            for (int64_t j = 0; fork && j < number; j++)
                call.answer.push_back(int64_t(rows[size_t(j * dim)]));
            return fork ? KVC_OK : kvc_status(err.status);
        });
        if (fork) kvc_seq_destroy(cache_, fork, nullptr);
    }

    void step(int64_t tokens) {
        kvc_step* step = nullptr;
        const int64_t value = 1 + int64_t(random_() % 1000);
        record({Verb::begin, tokens, value}, [&](Call&) {
            kvc_error err = {sizeof err, 0, {}};
            step = kvc_step_begin(cache_, &seq_, &tokens, 1, nullptr, 0, nullptr, &err);
            return step ? KVC_OK : kvc_status(err.status);
        });
        if (!step) return;
        const std::vector<float> rows(size_t(tokens * dim), float(value));
        const int64_t bytes = tokens * dim * 4;
        const bool appended = kvc_append(step, 0, rows.data(), bytes, rows.data(), bytes, nullptr) == KVC_OK;
        if (appended && random_() % 4 != 0)
            record({Verb::commit}, [&](Call&) { return kvc_step_commit(step, nullptr, 0, nullptr); });
        else
            record({Verb::abort}, [&](Call&) { return kvc_step_abort(step, nullptr); });
    }

    kvc_cache* cache_;
    kvc_seq seq_;
    std::atomic<int64_t>& clock_;
    std::mt19937 random_;
    std::vector<Call> calls_;
};

History recorded(kvc_cache* cache, uint32_t seed) {
    const kvc_seq seq = kvc_seq_create(cache, nullptr, nullptr);
    REQUIRE(seq > 0);
    std::atomic<int64_t> clock{0};
    std::atomic<int> ready{0};
    History history(threads);
    std::vector<std::thread> running;
    for (uint32_t t = 0; t < threads; t++)
        running.emplace_back([&, t] {
            Recorder recorder(cache, seq, clock, seed * threads + t);
            for (ready++; ready < threads;)
                std::this_thread::yield();
            history[t] = recorder.run();
        });
    for (std::thread& thread : running)
        thread.join();
    REQUIRE(kvc_seq_destroy(cache, seq, nullptr) == KVC_OK);
    return history;
}

kvc_cache* small_cache() {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1, options.kv_heads = 1, options.k_dim = dim, options.arena_bytes = 1 << 20;
    std::strcpy(options.codec, "k=f16,v=f16,window=64,sinks=0");
    return kvc_create(&options, nullptr, 0, nullptr);
}

}  // namespace

TEST_CASE("threads: what several of them see of one sequence has an order that explains it") {
    kvc_cache* cache = small_cache();
    REQUIRE(cache != nullptr);
    int overlapping = 0;
    for (uint32_t seed = 0; seed < 300; seed++) {
        CAPTURE(seed);
        const History history = recorded(cache, seed);
        CHECK(Search(history).linearizable());
        for (const std::vector<Call>& calls : history)
            for (const Call& call : calls)
                overlapping += call.end > call.start + 1;
    }
    CHECK(overlapping > 20);  // otherwise the threads never met
    kvc_stats stats = {sizeof stats};
    CHECK(kvc_stats_get(cache, &stats, nullptr) == KVC_OK);
    CHECK(stats.record_bytes == 0);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

TEST_CASE("threads: the search for an order refuses histories that have none") {
    const Call begin = {Verb::begin, 2, 7, 0, 1, KVC_OK, {}}, commit = {Verb::commit, 0, 0, 6, 7, KVC_OK, {}};
    const auto length = [](int64_t start, int64_t end, int64_t answer) {
        return Call{Verb::length, 0, 0, start, end, KVC_OK, {answer}};
    };
    CHECK(Search({{begin, commit}, {length(5, 8, 2)}}).linearizable());
    CHECK(Search({{begin, commit}, {length(5, 8, 0)}}).linearizable());
    CHECK_FALSE(Search({{begin, commit}, {length(8, 9, 0)}}).linearizable());  // the commit had returned
    CHECK_FALSE(Search({{begin, commit}, {length(2, 3, 2)}}).linearizable());  // it had not begun
    CHECK_FALSE(Search({{begin, commit}, {length(5, 8, 1)}}).linearizable());  // half a step
    const Call second = {Verb::begin, 1, 8, 2, 3, KVC_OK, {}}, busy = {Verb::begin, 1, 8, 2, 3, KVC_E_BUSY, {}};
    CHECK(Search({{begin, commit}, {busy}}).linearizable());
    CHECK_FALSE(Search({{begin, commit}, {second}}).linearizable());  // two open steps
    const Call fork = {Verb::fork, 2, 0, 8, 9, KVC_OK, {7, 7}}, other = {Verb::fork, 2, 0, 8, 9, KVC_OK, {7, 8}};
    CHECK(Search({{begin, commit}, {fork}}).linearizable());
    CHECK_FALSE(Search({{begin, commit}, {other}}).linearizable());
}

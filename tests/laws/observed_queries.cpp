// Which queries policies with an observation window look at, by position. Query i attends to token i alone, so what a token's mass is, in
// queries, is what its query counts; the witness below says what it should be, step by step, as docs/POLICIES.md has it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <kvc.h>
#include <string>
#include <vector>

#include "doctest/doctest.h"

namespace {

constexpr size_t dim = 16;

// A cache of one head and one sequence.
class Stream {
public:
    explicit Stream(const std::string& policy, int64_t prompt_length = 0) {
        kvc_options options;
        kvc_options_init(&options, sizeof options);
        options.layers = 1, options.kv_heads = 1, options.k_dim = dim, options.arena_tokens = 4096;
        std::snprintf(options.codec, sizeof options.codec, "fp16");
        std::snprintf(options.policy, sizeof options.policy, "%s", policy.c_str());
        cache_ = kvc_create(&options, nullptr, 0, &error);
        REQUIRE_MESSAGE(cache_ != nullptr, error.message);
        kvc_seq_options made;
        kvc_seq_options_init(&made, sizeof made);
        made.prompt_length = prompt_length;
        seq_ = kvc_seq_create(cache_, &made, &error);
        REQUIRE_MESSAGE(seq_ != 0, error.message);
    }
    ~Stream() { kvc_destroy(cache_, nullptr); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    void step(const std::vector<float>& k, const std::vector<float>& q) {
        const auto bytes = static_cast<int64_t>(k.size() * sizeof(float)), count = static_cast<int64_t>(k.size() / dim);
        const std::vector<float> v(k.size(), 1.0f);
        std::vector<float> out(k.size());
        kvc_step* step = kvc_step_begin(cache_, &seq_, &count, 1, nullptr, 0, nullptr, &error);
        REQUIRE_MESSAGE(step != nullptr, error.message);
        REQUIRE(kvc_append(step, 0, k.data(), bytes, v.data(), bytes, &error) == KVC_OK);
        REQUIRE(kvc_attend(step, 0, q.data(), bytes, out.data(), bytes, nullptr, 0, nullptr, &error) == KVC_OK);
        REQUIRE(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
        length_ += count;
    }

    // Tokens of which each is asked for by its own query alone: keys lie on two circles of 40 points each.
    void own(int64_t count) {
        std::vector<float> rows(static_cast<size_t>(count) * dim);
        for (int64_t t = 0; t < count; ++t) {
            const double unit = 2 * 3.14159265358979 / 40;
            const double fine = unit * static_cast<double>((length_ + t) % 40), coarse = unit * static_cast<double>((length_ + t) / 40);
            float* row = rows.data() + static_cast<size_t>(t) * dim;
            row[0] = static_cast<float>(90 * std::cos(fine)), row[1] = static_cast<float>(90 * std::sin(fine));
            row[2] = static_cast<float>(90 * std::cos(coarse)), row[3] = static_cast<float>(90 * std::sin(coarse));
        }
        step(rows, rows);
    }

    kvc_status evict(int64_t budget = 0) {
        kvc_evict_options options;
        kvc_evict_options_init(&options, sizeof options);
        options.budget = budget;
        return kvc_evict(cache_, seq_, nullptr, 0, &options, nullptr, &error);
    }
    void declare_prompt_end(int64_t end) { REQUIRE(kvc_seq_prompt_set(cache_, seq_, end, &error) == KVC_OK); }

    std::vector<int64_t> positions() {
        int64_t live = 0;
        REQUIRE(kvc_seq_live(cache_, seq_, 0, 0, &live, &error) == KVC_OK);
        std::vector<int64_t> all(static_cast<size_t>(live));
        REQUIRE(kvc_seq_positions(cache_, seq_, 0, 0, all.data(), live, nullptr, &error) == KVC_OK);
        return all;
    }
    // What each token's own query counts, in 1/1024.
    std::vector<int64_t> weights() {
        std::vector<int64_t> mass(positions().size());
        REQUIRE(kvc_seq_read_mass(cache_, seq_, 0, 0, mass.data(), static_cast<int64_t>(mass.size()), nullptr, &error) == KVC_OK);
        for (int64_t& m : mass)
            m = (m + (1 << 19)) >> 20;
        return mass;
    }

    kvc_error error = {sizeof error, 0, ""};

private:
    kvc_cache* cache_ = nullptr;
    kvc_seq seq_ = 0;
    int64_t length_ = 0;
};

// What docs/POLICIES.md says of every=commit and every=never, query by query.
struct Witness {
    int64_t window;
    bool sums_up = false;    // mass=observed of h2o: what counted once counts for ever
    int64_t prompt_end = 0;  // with every=never
    std::vector<double> weight = {};
    int64_t counted = 0;

    void step(int64_t count) {
        const auto begin = static_cast<int64_t>(weight.size()), end = begin + count;
        int64_t first = end - window;
        if (end <= prompt_end && (sums_up || prompt_end - window < end)) first = prompt_end - window;
        first = first < 0 ? 0 : first;
        if (!sums_up && first >= begin) {
            weight.assign(weight.size(), 0), counted = 0;
        } else if (!sums_up && counted + count > 2 * window) {
            for (double& w : weight)
                w /= 2;
            counted = (counted + 1) / 2;
        }
        for (int64_t i = begin; i < end; ++i)
            weight.push_back(i >= first ? 1 : 0), counted += i >= first;
    }
    std::vector<int64_t> weights() const {
        std::vector<int64_t> out;
        for (const double w : weight)
            out.push_back(std::llround(w * 1024));
        return out;
    }
};

// Weights of n tokens of which the last `window` count.
std::vector<int64_t> last_ones(int64_t n, int64_t window) {
    std::vector<int64_t> out(static_cast<size_t>(n));
    for (int64_t i = n > window ? n - window : 0; i < n; ++i)
        out[static_cast<size_t>(i)] = 1024;
    return out;
}

void point(std::vector<float>& rows, int64_t row, size_t axis, float length) { rows[static_cast<size_t>(row) * dim + axis] = length; }

// 100 tokens in steps; the queries below 65 ask for token 20, those from it on for token 70.
std::vector<int64_t> kept_of_two(const std::string& policy, const std::vector<int64_t>& steps) {
    Stream stream(policy);
    int64_t at = 0;
    for (const int64_t count : steps) {
        std::vector<float> k(static_cast<size_t>(count) * dim), q(k.size());
        for (int64_t t = 0; t < count; ++t) {
            if (at + t == 70) point(k, t, 0, 1);
            if (at + t == 20) point(k, t, 1, 1);
            point(q, t, at + t < 65 ? 1 : 0, 64);
        }
        stream.step(k, q);
        at += count;
    }
    if (policy.find("every=never") != std::string::npos) REQUIRE_MESSAGE(stream.evict() == KVC_OK, stream.error.message);
    return stream.positions();
}

bool keeps(const std::vector<int64_t>& positions, int64_t position) {
    for (const int64_t p : positions)
        if (p == position) return true;
    return false;
}

}  // namespace

TEST_CASE("observed queries: at a commit and at kvc_evict the newest ones decide, wherever they lie") {
    for (const char* every : {",every=commit", ",every=never"})
        for (const char* policy : {"tova:8,sinks=1,recent=4", "snapkv:8,sinks=1,recent=4,pool=none",
                                   "h2o:8,sinks=1,recent=4,mass=observed", "expected_attention:8,sinks=1,recent=4"})
            for (const std::vector<int64_t>& steps : {std::vector<int64_t>{100}, {64, 36}}) {
                CAPTURE(policy);
                CAPTURE(every);
                if (steps.size() > 1 && std::string(every) == ",every=commit") continue;  // there token 70 came after an eviction
                const std::vector<int64_t> kept = kept_of_two(std::string(policy) + every, steps);
                CHECK(kept.size() == 8);
                CHECK(keeps(kept, 70));
                CHECK(kept.front() == 0);
                CHECK(keeps(kept, 96));
            }
}

TEST_CASE("observed queries: after a prompt of any length its last ones count, whole or in chunks") {
    for (int64_t n = 991; n <= 1025; ++n) {
        CAPTURE(n);
        for (const char* every : {",every=never", ",every=commit"}) {
            CAPTURE(every);
            for (const int64_t declared : {int64_t{0}, n}) {
                Stream snapkv(std::string("snapkv:1500") + every, declared), tova(std::string("tova:1500") + every, declared);
                Stream observed(std::string("h2o:1500,mass=observed") + every, declared);
                for (Stream* each : {&snapkv, &tova, &observed})
                    each->own(n);
                CHECK(snapkv.weights() == last_ones(n, 32));
                CHECK(tova.weights() == last_ones(n, 1));
                CHECK(observed.weights() == last_ones(n, 32));
                CHECK(snapkv.evict() == KVC_OK);
            }
        }
        // In chunks, with its end declared, exactly the same ones.
        Stream snapkv("snapkv:1500,every=never", n), observed("h2o:1500,mass=observed,every=never", n);
        for (Stream* each : {&snapkv, &observed}) {
            for (int64_t at = 0; at < n; at += 200)
                each->own(std::min<int64_t>(200, n - at));
            CHECK(each->weights() == last_ones(n, 32));
            CHECK(each->evict() == KVC_OK);
        }
    }
}

TEST_CASE("observed queries: between steps shorter than the window the older ones fade, and at least as many as the window count") {
    const std::vector<std::vector<int64_t>> streams = {
        {100, 1, 1, 1, 40, 3, 3, 31, 31, 31, 31, 7}, {1, 1, 5, 9, 20, 31, 32, 1}, {33, 31, 1, 31, 2, 90}, {300}, {5}};
    for (const char* every : {"commit", "never"})
        for (const int64_t prompt_end : {0, 103, 140, 171})
            for (const std::vector<int64_t>& steps : streams) {
                CAPTURE(every);
                CAPTURE(prompt_end);
                const int64_t end = std::string(every) == "never" ? prompt_end : 0;
                const std::string more = std::string(",every=") + every;
                Stream snapkv("snapkv:600" + more, prompt_end), tova("tova:600" + more, prompt_end);
                Stream observed("h2o:600,mass=observed,observe=20" + more, prompt_end);
                Witness latest{32, false, end}, newest{1, false, end}, sums{20, true, end};
                for (const int64_t count : steps) {
                    for (Stream* each : {&snapkv, &tova, &observed})
                        each->own(count);
                    for (Witness* each : {&latest, &newest, &sums})
                        each->step(count);
                    CHECK(snapkv.weights() == latest.weights());
                    CHECK(tova.weights() == newest.weights());
                    CHECK(observed.weights() == sums.weights());
                    const auto n = static_cast<int64_t>(latest.weight.size());
                    // Too few of them for a decision: before the end of a declared prompt.
                    CHECK((snapkv.evict() == KVC_OK) == (latest.counted >= std::min<int64_t>(32, n)));
                    CHECK(tova.evict() == KVC_OK);
                    CHECK((observed.evict() == KVC_OK) == (n >= end));
                    if (end == 0) CHECK(latest.counted >= std::min<int64_t>(32, n));
                    CHECK(latest.counted <= 64);
                }
            }
}

TEST_CASE("observed queries: a decode step brings one, and the prompt's last still count") {
    for (const char* every : {",every=commit", ",every=never"}) {
        // 100 queries ask for token 20; then three, one by one, for token 70.
        for (const char* policy : {"snapkv:104,sinks=1,recent=4,pool=none", "expected_attention:104,sinks=1,recent=4"}) {
            CAPTURE(policy);
            CAPTURE(every);
            Stream stream(std::string(policy) + every);
            std::vector<float> k(100 * dim), q(100 * dim);
            point(k, 20, 0, 1), point(k, 70, 1, 1);
            for (int64_t t = 0; t < 100; ++t)
                point(q, t, 0, 64);
            stream.step(k, q);
            for (int n = 0; n < 3; ++n) {
                std::vector<float> one(dim), asks(dim);
                point(asks, 0, 1, 64);
                stream.step(one, asks);
            }
            // Two tokens of the old ones stay: the sink and the heaviest.
            REQUIRE_MESSAGE(stream.evict(6) == KVC_OK, stream.error.message);
            CHECK(stream.positions() == std::vector<int64_t>{0, 20, 99, 100, 101, 102});
        }
    }
}

TEST_CASE("observed queries: kvc_evict between two boundaries is refused where the policy would not see the newest ones") {
    for (const char* policy :
         {"tova:80", "snapkv:80", "h2o:80,mass=observed", "mean_attention:80,mass=observed", "expected_attention:80"}) {
        CAPTURE(policy);
        Stream stream(policy);
        stream.own(64);
        stream.own(36);
        const std::vector<int64_t> before = stream.positions();
        CHECK(stream.evict() == KVC_E_UNSUPPORTED);
        CHECK(std::string(stream.error.message).find("every") != std::string::npos);
        CHECK(std::string(stream.error.message).find("128") != std::string::npos);
        CHECK(stream.positions() == before);
        stream.own(28);
        CHECK(stream.positions().size() == 80);
        CHECK(stream.evict(70) == KVC_OK);
    }
    for (const char* policy : {"h2o:80", "key_norm:80", "streaming:80", "h2o:80,mass=page", "key_diversity:80"}) {
        CAPTURE(policy);
        Stream stream(policy);
        stream.own(64);
        stream.own(36);
        CHECK_MESSAGE(stream.evict() == KVC_OK, stream.error.message);
    }
}

TEST_CASE("observed queries: before the end of a declared prompt kvc_evict says what it waits for") {
    Stream stream("snapkv:80,every=never", 200);
    stream.own(150);
    CHECK(stream.evict() == KVC_OK);  // the last 32 of 150
    stream.own(30);
    CHECK(stream.evict() == KVC_E_UNSUPPORTED);  // 168 .. 179
    CHECK(std::string(stream.error.message).find("32") != std::string::npos);
    CHECK(std::string(stream.error.message).find("12") != std::string::npos);
    CHECK(std::string(stream.error.message).find("200") != std::string::npos);
    stream.own(20);
    CHECK(stream.evict() == KVC_OK);
    Stream observed("h2o:80,mass=observed,every=never", 200);
    observed.own(150);
    CHECK(observed.evict() == KVC_E_UNSUPPORTED);
    // Who wants to evict there says that the prompt's first part ends there.
    observed.declare_prompt_end(200);
    observed.own(50);
    CHECK(observed.evict() == KVC_OK);
}

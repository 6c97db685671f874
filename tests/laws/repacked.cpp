// Law: what it costs tokens to be coded anew by repacks, time after time: errors add up as independent ones do, and what is kept for long
// is repacked seldom, because pages are joined with neighbours of their age.
#include <cmath>
#include <cstdio>
#include <kvc.h>
#include <random>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

// A sequence and the same one in 16 bits, fed with the same tokens; nothing attends.
class Twins {
public:
    Twins(const std::string& create, const std::string& codec)
        : coded_(create + " codec=" + codec), exact_(create + " codec=fp16"), dim_(coded_.replay.shapes().options.k_dim) {
        for (Session* session : {&coded_, &exact_})
            session->ok("seq a");
    }

    void feed(int64_t tokens) {
        const std::string step = "t" + std::to_string(++steps_);
        for (Session* session : {&coded_, &exact_}) {
            session->ok("begin " + step + " a:" + std::to_string(tokens));
            session->ok("append " + step + " seed=1");
            session->ok("commit " + step);
        }
        length_ += tokens;
    }

    void evict(const std::vector<float>& scores, int64_t budget) {
        kvc_evict_options options;
        kvc_evict_options_init(&options, sizeof options);
        options.budget = budget;
        REQUIRE(kvc_evict(coded_.replay.cache(), coded_.replay.handle_of("a"), scores.data(), int64_t(scores.size()), &options, nullptr,
                          nullptr) == KVC_OK);
    }

    // Relative error of keys or values of the coded tokens, ascending by position: of the first n (n > 0), the last -n, or all (0).
    double error(const char* part, int64_t sinks, int64_t window, int64_t n) {
        std::vector<int64_t> kept = coded_.ok("positions a").numbers;
        const std::vector<float> have = rows(coded_, part, int64_t(kept.size())), want = rows(exact_, part, length_);
        const int64_t coded_end = sinks + (length_ - sinks - window) / 64 * 64;
        int64_t first = 0, last = int64_t(kept.size());
        while (kept[size_t(first)] < sinks)
            first++;
        while (kept[size_t(last - 1)] >= coded_end)
            last--;
        if (n > 0) last = std::min(last, first + n);
        if (n < 0) first = std::max(first, last + n);
        double error = 0, norm = 0;
        for (int64_t i = first; i < last; i++)
            for (int64_t d = 0; d < dim_; d++) {
                const double x = want[size_t(kept[size_t(i)] * dim_ + d)], off = double{have[size_t(i * dim_ + d)]} - x;
                error += off * off, norm += x * x;
            }
        return std::sqrt(error / norm);
    }

    int64_t tokens_requantized() { return coded_.stats()[13]; }
    int64_t length() const { return length_; }

private:
    static std::vector<float> rows(Session& session, const char* part, int64_t n) {
        return session.ok(std::string("read a part=") + part + " first=0 n=" + std::to_string(n)).values;
    }

    Session coded_, exact_;
    int64_t dim_, length_ = 0, steps_ = 0;
};

}  // namespace

TEST_CASE("repacked: each further coding adds its own error to keys, as independent errors add up, and none to values") {
    constexpr int64_t tokens = 2048, sinks = 4, window = 64;
    for (const char* preset : {"int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2"}) {
        CAPTURE(preset);
        Twins twins(" growth=1 k_dim=64", short_window(preset, window, sinks));
        for (int i = 0; i < 4; i++)
            twins.feed(tokens / 4);
        const double once = twins.error("keys", sinks, window, 0), values = twins.error("values", sinks, window, 0);
        std::mt19937 random(3);
        std::vector<float> scores(tokens);
        double codings = 0;
        std::string row;
        int64_t live = tokens, counted = 0;
        for (int told = 1; live > 300;) {
            for (float& score : scores)
                score = float(random() % 100000);
            live = live * 19 / 20;
            twins.evict(scores, live);
            codings += double(twins.tokens_requantized() - counted) / double(live - sinks - window);
            counted = twins.tokens_requantized();
            const double now = twins.error("keys", sinks, window, 0);
            CHECK(now < once * std::sqrt(1 + codings) * 1.1);
            CHECK(twins.error("values", sinks, window, 0) < values * 1.05);
            if (codings < told) continue;
            char cell[64];
            std::snprintf(cell, sizeof cell, " | %.1f: %.4f", codings, now);
            row += cell, told++;
        }
        CHECK(codings > 2);
        MESSAGE(std::string(preset), ", once: ", once, row);
    }
}

TEST_CASE("repacked: in a long stream the oldest tokens have not been coded many times") {
    constexpr int64_t tokens = 12288, budget = 512, sinks = 4, window = 64;
    Twins twins(" growth=1 k_dim=32", short_window("int4", window, sinks));
    std::mt19937 random(4);
    // A worth of its own for each token, and noise: some stay for the whole stream, among others that come and go.
    std::vector<float> worth, scores;
    double once = 0;
    while (twins.length() < tokens) {
        twins.feed(64);
        for (int i = 0; i < 64; i++)
            worth.push_back(float(random() % 100000));
        if (twins.length() == budget) once = twins.error("keys", sinks, window, 0);
        if (twins.length() <= budget) continue;
        scores = worth;
        for (float& score : scores)
            score += float(random() % 30000);
        twins.evict(scores, budget);
    }
    const double oldest = twins.error("keys", sinks, window, 64);
    MESSAGE("keys of int4, coded once: ", once, ", the oldest 64 of the stream: ", oldest);
    CHECK(oldest > once);
    CHECK(oldest < 2.75 * once);
}

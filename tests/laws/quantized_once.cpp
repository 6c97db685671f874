// Law: how often a token is quantized over its life. Once where a sequence only grows, forks and rolls back into its spare pages; once more
// for tokens of the page that a cut below the exact floor goes through, and for per-channel parts when eviction repacks a page.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <kvc.h>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

constexpr int64_t sinks = 3, window = 10, dim = 64;
const std::string shape = " layers=2 kv_heads=2 k_dim=64 codec=";
const std::vector<std::string> lossy = {"int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2"};

std::vector<float> read(Session& session, const std::string& name, const char* part, int64_t first, int64_t n) {
    return session.ok("read " + name + " layer=1 head=1 part=" + part + " first=" + std::to_string(first) + " n=" + std::to_string(n))
        .values;
}

// Pages quantized since creation, and tokens quantized anew by repacks.
int64_t pages_quantized(Session& session) { return session.stats()[12]; }
int64_t tokens_requantized(Session& session) { return session.stats()[13]; }

// Counts, for every token, how many different numbers a reader has been given for it.
class Changes {
public:
    explicit Changes(const char* part) : part_(part) {}

    void look(Session& session, const std::string& name) {
        const int64_t n = session.number("length " + name);
        const std::vector<float> now = read(session, name, part_, 0, n);
        count_.resize(std::max<size_t>(count_.size(), size_t(n)));
        last_.resize(std::max(last_.size(), now.size()), std::nanf(""));
        for (int64_t t = 0; t < n; ++t) {
            const auto row = now.begin() + t * dim;
            if (std::equal(row, row + dim, last_.begin() + t * dim)) continue;
            std::copy_n(row, dim, last_.begin() + t * dim);
            ++count_[size_t(t)];
        }
    }
    // The most forms of any token of [first, last).
    int64_t most(int64_t first, int64_t last) const { return *std::max_element(count_.begin() + first, count_.begin() + last); }

private:
    const char* part_;
    std::vector<float> last_;
    std::vector<int64_t> count_;
};

// Relative error of tokens against what was appended.
double error_of(Session& session, Session& original, const char* part, int64_t first, int64_t n) {
    const std::vector<float> have = read(session, "a", part, first, n), want = read(original, "a", part, first, n);
    double error = 0, norm = 0;
    for (size_t i = 0; i < have.size(); ++i) {
        error += (double{have[i]} - want[i]) * (double{have[i]} - want[i]);
        norm += double{want[i]} * want[i];
    }
    return std::sqrt(error / norm);
}

}  // namespace

TEST_CASE("quantized once: a sequence that grows, forks and rolls back within its spare pages is coded from what was appended") {
    for (const std::string& preset : lossy) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, window, sinks) + " spare_pages=2");
        session.ok("seq a");
        Changes keys("keys"), values("values");
        int64_t length = 0;
        const auto grow = [&](int64_t tokens) {
            session.feed("a", tokens, tokens);
            length += tokens;
            keys.look(session, "a");
            values.look(session, "a");
        };
        for (int64_t tokens : {1, 63, 64, 65, 1, 130, 7})
            grow(tokens);
        // Every page behind the window, once in each of 2 layers and 2 heads, however the stream was cut.
        CHECK(pages_quantized(session) == 4 * ((length - sinks - window) / 64));
        const std::vector<float> before = read(session, "a", "keys", 0, length);
        session.ok("fork b a length=" + std::to_string(length));
        session.feed("b", 100, 100);
        session.ok("destroy b");
        for (int64_t back : {1, 64, 128}) {
            session.ok("truncate a length=" + std::to_string(length - back));
            length -= back;
            grow(back);
        }
        CHECK(read(session, "a", "keys", 0, length) == before);
        grow(200);
        CHECK(keys.most(0, length) == 2);  // 16 bits, then codes
        CHECK(values.most(0, length) == 2);
        CHECK(tokens_requantized(session) == 0);
    }
}

TEST_CASE("quantized once: rejected and aborted steps leave nothing that was coded from codes") {
    Session session(shape + short_window("int4", window, sinks));
    session.ok("seq a");
    Changes keys("keys");
    for (int i = 0; i < 12; ++i) {
        const std::string t = "t" + std::to_string(i), accepted = std::to_string(i * 17 % 70);
        session.ok("begin " + t + " a:70 partial_commit=1");
        for (const char* layer : {"0", "1"})
            session.ok("append " + t + " seed=1 layer=" + layer);
        session.ok(i % 4 == 3 ? "abort " + t : "commit " + t + " a:" + accepted);
        keys.look(session, "a");
    }
    CHECK(keys.most(0, session.number("length a")) == 2);
}

TEST_CASE("quantized once more: a cut below the exact floor costs the page it goes through one coding, and no other") {
    for (const std::string& preset : lossy) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, window, sinks)), original(shape + "fp16");
        for (Session* s : {&session, &original}) {
            s->ok("seq a");
            s->feed("a", 400, 400);
        }
        Changes keys("keys"), values("values");
        keys.look(session, "a");
        values.look(session, "a");
        const int64_t page = sinks + 2 * 64, cut = page + 40;
        std::string row = "| " + preset + " |";
        double first_k = 0, first_v = 0;
        for (int64_t codings = 1; codings <= 8; ++codings) {
            const double k = error_of(session, original, "keys", page, 40), v = error_of(session, original, "values", page, 40);
            if (codings == 1) first_k = k, first_v = v;
            if (codings <= 2 || codings == 4 || codings == 8) {
                char cells[64];
                std::snprintf(cells, sizeof cells, " %.4f / %.4f |", k, v);
                row += cells;
            }
            // Codes of codes lie close to each other: the error stays near that of the first coding. The clipped range of int2's keys
            // shrinks with every coding, which tells after a few.
            CHECK(k < first_k * (preset == "int2" ? 1.7 : 1.25));
            CHECK(v < first_v * 1.05);
            const int64_t before = pages_quantized(session);
            session.ok("truncate a cut=inexact length=" + std::to_string(cut));
            session.feed("a", 400 - cut, 400 - cut);
            // Per head: the cut page and those behind it, up to the window.
            CHECK(pages_quantized(session) - before == 4 * ((400 - sinks - window) / 64 - 2));
            keys.look(session, "a");
            values.look(session, "a");
            CHECK(keys.most(0, page) <= 1);  // older pages are never touched
            CHECK(values.most(0, page) <= 1);
            CHECK(keys.most(page + 64, 400) <= 1);  // newer pages are appended and coded like the first time
            CHECK(values.most(page + 64, 400) <= 1);
            CHECK(keys.most(page, cut) <= 1 + codings);
            CHECK(values.most(page, cut) <= 1 + codings);
        }
        MESSAGE(row);
        CHECK(tokens_requantized(session) == 0);
    }
}

TEST_CASE("quantized once more: a repack codes per-channel keys again and counts them; values that are coded per token only move") {
    for (const std::string& preset : lossy) {
        CAPTURE(preset);
        Session session(shape + short_window(preset, window, sinks));
        session.ok("seq a");
        session.feed("a", 800, 800);
        int64_t counted = 0;
        for (int64_t budget : {700, 400, 250, 150, 100}) {
            // Tokens that stay, before and after.
            const std::vector<int64_t> positions = session.ok("positions a layer=1 head=1").numbers;
            const std::vector<float> k = read(session, "a", "keys", 0, int64_t(positions.size()));
            const std::vector<float> v = read(session, "a", "values", 0, int64_t(positions.size()));
            const std::vector<int64_t> report = session.ok("evict a scores=5 budget=" + std::to_string(budget)).numbers;
            const std::vector<int64_t> kept = session.ok("positions a layer=1 head=1").numbers;
            const std::vector<float> k_now = read(session, "a", "keys", 0, budget), v_now = read(session, "a", "values", 0, budget);
            int64_t moved = 0;
            for (size_t i = 0; i < kept.size(); ++i) {
                const auto at = std::lower_bound(positions.begin(), positions.end(), kept[i]) - positions.begin();
                CHECK(std::equal(v_now.begin() + int64_t(i) * dim, v_now.begin() + int64_t(i + 1) * dim, v.begin() + at * dim));
                moved += !std::equal(k_now.begin() + int64_t(i) * dim, k_now.begin() + int64_t(i + 1) * dim, k.begin() + at * dim);
            }
            CHECK(tokens_requantized(session) - counted == report[3]);
            CHECK(moved <= report[3]);
            counted = tokens_requantized(session);
        }
        CHECK(counted > 0);
    }
}

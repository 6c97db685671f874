// In-cache positions: after an eviction the sinks are seen as if the gap behind them were not there.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#include "kvc.h"

namespace {

constexpr int64_t dim = 64, sinks = 4, heads = 2, group = 2;
constexpr double theta = 10000;

// Turns pairs (i, i + dim / 2) by a position.
void turn(float* x, double position) {
    for (int64_t i = 0; i < dim / 2; i++) {
        const double angle = position * std::pow(theta, -2.0 * double(i) / double(dim));
        const double a = x[i], b = x[i + dim / 2];
        x[i] = float(a * std::cos(angle) - b * std::sin(angle));
        x[i + dim / 2] = float(a * std::sin(angle) + b * std::cos(angle));
    }
}

struct Stream {
    std::vector<float> k, v, q;  // before RoPE

    explicit Stream(int64_t tokens) {
        std::mt19937 random(7);
        std::normal_distribution<float> normal;
        for (auto [x, n] : {std::pair{&k, heads}, {&v, heads}, {&q, heads * group}}) {
            x->resize(size_t(tokens * n * dim));
            for (float& number : *x)
                number = normal(random);
        }
    }
};

struct Reader {
    kvc_error err = {sizeof(kvc_error), 0, {}};
    kvc_cache* cache = nullptr;
    kvc_seq seq = 0;
    int64_t length = 0;
    bool keys_before;

    Reader(const char* codec, int32_t positions, bool before) : keys_before(before) {
        kvc_options options;
        kvc_options_init(&options, sizeof options);
        options.layers = 1;
        options.kv_heads = heads;
        options.q_heads = heads * group;
        options.k_dim = dim;
        options.arena_tokens = 4096;
        options.positions = positions;
        options.keys = before ? KVC_KEYS_BEFORE_ROPE : KVC_KEYS_AFTER_ROPE;
        options.rope_theta = theta;
        std::strcpy(options.codec, codec);
        cache = kvc_create(&options, nullptr, 0, &err);
        if (cache) seq = kvc_seq_create(cache, nullptr, &err);
    }
    ~Reader() { kvc_destroy(cache, nullptr); }

    // One step of n tokens; the outputs of the last one.
    std::vector<float> step(const Stream& stream, int64_t n) {
        std::vector<float> k(stream.k.begin() + length * heads * dim, stream.k.begin() + (length + n) * heads * dim);
        std::vector<float> q(stream.q.begin() + length * heads * group * dim, stream.q.begin() + (length + n) * heads * group * dim);
        for (int64_t t = 0; t < n && !keys_before; t++) {
            for (int64_t h = 0; h < heads; h++)
                turn(&k[size_t((t * heads + h) * dim)], double(length + t));
            for (int64_t h = 0; h < heads * group; h++)
                turn(&q[size_t((t * heads * group + h) * dim)], double(length + t));
        }
        std::vector<float> out(q.size());
        kvc_step* step = kvc_step_begin(cache, &seq, &n, 1, nullptr, 0, nullptr, &err);
        REQUIRE_MESSAGE(step != nullptr, err.message);
        REQUIRE(kvc_append(step, 0, k.data(), int64_t(k.size() * 4), &stream.v[size_t(length * heads * dim)], n * heads * dim * 4,
                           &err) == 0);
        REQUIRE_MESSAGE(
            kvc_attend(step, 0, q.data(), int64_t(q.size() * 4), out.data(), int64_t(out.size() * 4), nullptr, 0, nullptr, &err) == 0,
            err.message);
        REQUIRE(kvc_step_commit(step, nullptr, 0, &err) == 0);
        length += n;
        return {out.end() - heads * group * dim, out.end()};
    }

    kvc_status keep(int64_t budget) {
        kvc_evict_options options;
        kvc_evict_options_init(&options, sizeof options);
        options.budget = budget;
        return kvc_evict(cache, seq, nullptr, 0, &options, nullptr, &err);
    }
};

// Exact attention of the token at `query` over the kept tokens; positions count over the kept tokens if in_cache.
std::vector<double> expected(const Stream& stream, int64_t query, const std::vector<int64_t>& kept, bool in_cache) {
    std::vector<double> out;
    for (int64_t h = 0; h < heads * group; h++) {
        std::vector<float> q(&stream.q[size_t((query * heads * group + h) * dim)],
                             &stream.q[size_t((query * heads * group + h) * dim)] + dim);
        turn(q.data(), in_cache ? double(kept.size() - 1) : double(query));
        std::vector<double> sum(dim, 0.0);
        double total = 0;
        for (size_t j = 0; j < kept.size(); j++) {
            const size_t row = size_t((kept[j] * heads + h / group) * dim);
            std::vector<float> k(&stream.k[row], &stream.k[row] + dim);
            turn(k.data(), in_cache ? double(j) : double(kept[j]));
            double dot = 0;
            for (int64_t d = 0; d < dim; d++)
                dot += double(q[size_t(d)]) * k[size_t(d)];
            const double p = std::exp(dot / std::sqrt(double(dim)));
            total += p;
            for (int64_t d = 0; d < dim; d++)
                sum[size_t(d)] += p * stream.v[row + size_t(d)];
        }
        for (double x : sum)
            out.push_back(x / total);
    }
    return out;
}

double relative_error(const std::vector<float>& out, const std::vector<double>& exact) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < out.size(); i++) {
        error += (out[i] - exact[i]) * (out[i] - exact[i]);
        norm += exact[i] * exact[i];
    }
    return std::sqrt(error / norm);
}

bool before_rope_runs() {
    Reader reader("fp16", KVC_POSITIONS_TRUE, true);
    return reader.cache != nullptr;
}

}  // namespace

TEST_CASE("in-cache positions: equal keys turned anew by their index among the kept") {
    const Stream stream(700);
    for (bool before : {false, true}) {
        if (before && !before_rope_runs()) {
            MESSAGE("keys before RoPE are refused by this build");
            continue;
        }
        Reader reader("k=f16,v=f16,window=0,sinks=4", KVC_POSITIONS_IN_CACHE, before);
        REQUIRE_MESSAGE(reader.cache != nullptr, reader.err.message);
        reader.step(stream, 600);
        REQUIRE_MESSAGE(reader.keep(200) == KVC_OK, reader.err.message);
        for (int64_t n : {1, 1, 40, 57}) {
            const std::vector<float> out = reader.step(stream, n);
            const int64_t query = reader.length - 1;
            std::vector<int64_t> kept = {0, 1, 2, 3};
            for (int64_t j = 600 - 196; j <= query; j++)
                kept.push_back(j);
            // fp16 keys and values: a relative error of 2^-11 each, on logits of a few units.
            CHECK(relative_error(out, expected(stream, query, kept, true)) < 4e-3);
            // The true positions are a visibly different model.
            CHECK(relative_error(out, expected(stream, query, kept, false)) > 1e-2);
        }
    }
}

TEST_CASE("keys before RoPE: equal keys that came turned") {
    if (!before_rope_runs()) {
        MESSAGE("keys before RoPE are refused by this build");
        return;
    }
    const Stream stream(300);
    Reader before("fp16", KVC_POSITIONS_TRUE, true);
    for (int64_t n : {130, 1, 100, 64, 1}) {
        const std::vector<float> out = before.step(stream, n);
        std::vector<int64_t> kept;
        for (int64_t j = 0; j < before.length; j++)
            kept.push_back(j);
        CHECK(relative_error(out, expected(stream, before.length - 1, kept, false)) < 4e-3);
    }
    kvc_stats stats = {sizeof stats};
    CHECK(kvc_stats_get(before.cache, &stats, nullptr) == KVC_OK);
    CHECK(stats.slow_calls == 5);  // explicit dequantization is counted
}

TEST_CASE("in-cache positions: evictions that leave other gaps are refused and change nothing") {
    const Stream stream(500);
    Reader reader("fp16", KVC_POSITIONS_IN_CACHE, false);
    REQUIRE(reader.cache != nullptr);
    reader.step(stream, 500);
    const int64_t positions[] = {10, 11, 400};
    CHECK(kvc_evict_keep(reader.cache, reader.seq, positions, 3, nullptr, nullptr, &reader.err) == KVC_E_UNSUPPORTED);
    int64_t live = 0;
    CHECK(kvc_seq_live(reader.cache, reader.seq, 0, 0, &live, nullptr) == KVC_OK);
    CHECK(live == 500);
}

TEST_CASE("in-cache positions: no frequencies, no sequence") {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1;
    options.kv_heads = 1;
    options.k_dim = 64;
    options.arena_tokens = 64;
    options.positions = KVC_POSITIONS_IN_CACHE;
    kvc_error err = {sizeof err, 0, {}};
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &err);
    REQUIRE(cache != nullptr);
    CHECK(kvc_seq_create(cache, nullptr, &err) == 0);
    CHECK(err.status == KVC_E_ORDER);
    std::vector<double> frequencies(32, 0.5);
    CHECK(kvc_rope_frequencies_set(cache, 0, frequencies.data(), 31, &err) == KVC_E_ARGUMENT);
    CHECK(kvc_rope_frequencies_set(cache, 0, frequencies.data(), 32, &err) == KVC_OK);
    CHECK(kvc_seq_create(cache, nullptr, &err) != 0);
    CHECK(kvc_rope_frequencies_set(cache, 0, frequencies.data(), 32, &err) == KVC_E_ORDER);
    kvc_destroy(cache, nullptr);
}

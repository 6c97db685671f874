// What the laws of merging share: heads as the API reads them back, and clusters as a caller gives them.
#pragma once

#include <cmath>
#include <kvc.h>
#include <string>
#include <vector>

#include "tests/laws/policy_session.h"
#include "tests/reference/merging.h"
#include "tests/reference/test_data.h"

namespace kvc_laws {

inline std::vector<int64_t> counts_of(Session& session, const std::string& name, int layer = 0, int head = 0) {
    std::vector<int64_t> counts(positions_of(session, name, layer, head).size());
    REQUIRE(kvc_seq_read_counts(session.replay.cache(), session.replay.handle_of(name), layer, head, counts.data(),
                                static_cast<int64_t>(counts.size()), nullptr, nullptr) == KVC_OK);
    return counts;
}

inline int64_t sum_of(const std::vector<int64_t>& numbers) {
    int64_t sum = 0;
    for (const int64_t x : numbers)
        sum += x;
    return sum;
}

inline std::vector<std::vector<double>> rows_of(Session& session, const std::string& words, size_t rows) {
    const std::vector<float> values = session.ok("read " + words).values;
    const size_t dim = values.size() / rows;
    std::vector<std::vector<double>> out;
    for (size_t i = 0; i < rows; ++i)
        out.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(i * dim),
                         values.begin() + static_cast<std::ptrdiff_t>((i + 1) * dim));
    return out;
}

inline kvc_reference::MergedHead head_of(Session& session, const std::string& name, int layer = 0, int head = 0) {
    kvc_reference::MergedHead out;
    out.positions = positions_of(session, name, layer, head);
    out.counts = counts_of(session, name, layer, head);
    out.k = rows_of(session, head_words(name, layer, head) + " part=keys", out.positions.size());
    out.v = rows_of(session, head_words(name, layer, head) + " part=values", out.positions.size());
    return out;
}

// Rows of clusters, each token by itself, for so many (layer, head) pairs.
inline std::vector<int32_t> unmerged(int64_t length, int64_t heads) {
    std::vector<int32_t> clusters;
    for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < length; ++i)
            clusters.push_back(static_cast<int32_t>(i));
    return clusters;
}

struct Merge {
    kvc_status status;
    kvc_evict_report report;
    std::string message;
};

inline Merge merge(Session& session, const std::string& name, const std::vector<int32_t>& clusters, bool values_only = false,
                   bool unbiased = false, int64_t heads = 0) {
    kvc_merge_options options;
    REQUIRE(kvc_merge_options_init(&options, sizeof options) == KVC_OK);
    options.values_only = values_only, options.unbiased = unbiased, options.head_end = heads;
    Merge out{KVC_OK, {}, ""};
    out.report.struct_size = sizeof out.report;
    kvc_error error = {sizeof error, 0, ""};
    out.status = kvc_merge(session.replay.cache(), session.replay.handle_of(name), clusters.data(),
                           static_cast<int64_t>(clusters.size()), &options, &out.report, &error);
    out.message = error.message;
    return out;
}

// Attention of one query over all that the sequence holds; what the step appends is hidden from it, and then aborted.
struct Attended {
    std::vector<float> out, lse;
};

inline Attended attend_all(Session& session, const std::string& name, const std::vector<float>& q, int64_t kv_heads, int64_t dim) {
    const kvc_seq seq = session.replay.handle_of(name);
    const int64_t count = 1, q_heads = static_cast<int64_t>(q.size()) / dim;
    const std::vector<float> row(static_cast<size_t>(kv_heads * dim));
    const auto bytes = [](const std::vector<float>& x) { return static_cast<int64_t>(x.size() * sizeof(float)); };
    Attended got{std::vector<float>(q.size()), std::vector<float>(static_cast<size_t>(q_heads))};
    kvc_attend_options options;
    kvc_attend_options_init(&options, sizeof options);
    options.causal_offset = -1;
    kvc_step* step = kvc_step_begin(session.replay.cache(), &seq, &count, 1, nullptr, 0, nullptr, nullptr);
    REQUIRE(step != nullptr);
    REQUIRE(kvc_append(step, 0, row.data(), bytes(row), row.data(), bytes(row), nullptr) == KVC_OK);
    REQUIRE(kvc_attend(step, 0, q.data(), bytes(q), got.out.data(), bytes(got.out), got.lse.data(), bytes(got.lse), &options,
                       nullptr) == KVC_OK);
    REQUIRE(kvc_step_abort(step, nullptr) == KVC_OK);
    return got;
}

inline std::vector<float> queries(size_t n, uint64_t seed) {
    std::vector<float> q;
    for (size_t i = 0; i < n; ++i)
        q.push_back(static_cast<float>(static_cast<int64_t>((seed * 2654435761u + i * 40503u) * 2246822519u % 2001) - 1000) / 500.0f);
    return q;
}

// Holds attention over a one-layer sequence against the formula over what is read back; the relative error of the worst head.
inline double attention_error(Session& session, const std::string& name, int kv_heads, int group, int64_t dim, bool biased,
                              uint64_t seed) {
    const std::vector<float> q = queries(static_cast<size_t>(kv_heads * group * dim), seed);
    const Attended got = attend_all(session, name, q, kv_heads, dim);
    double error = 0, energy = 0, worst_lse = 0;
    for (int h = 0; h < kv_heads * group; ++h) {
        double lse = 0;
        const std::vector<float> row(q.begin() + h * dim, q.begin() + (h + 1) * dim);
        const std::vector<double> expected = kvc_reference::weighed_attention(head_of(session, name, 0, h / group), row,
                                                                              1 / std::sqrt(static_cast<double>(dim)), biased, &lse);
        for (size_t d = 0; d < static_cast<size_t>(dim); ++d) {
            const double difference = static_cast<double>(got.out[static_cast<size_t>(h * dim) + d]) - expected[d];
            error += difference * difference, energy += expected[d] * expected[d];
        }
        worst_lse = std::max(worst_lse, std::fabs(static_cast<double>(got.lse[static_cast<size_t>(h)]) - lse));
    }
    return std::max(std::sqrt(error / energy), worst_lse);
}

}  // namespace kvc_laws

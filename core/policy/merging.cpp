#include "core/policy/merging.h"

#include "core/policy/key_statistics.h"

namespace kvc {

double least_cosine(int64_t threshold) { return threshold == MergeRule::no_threshold ? -2 : double(threshold) / 1000; }

std::vector<int64_t> route_by_cosine(const MergeFacts& facts, int64_t threshold) {
    const std::vector<double> keys = unit_rows(facts.keys, facts.dim);
    const int64_t tokens = int64_t(facts.keep.size());
    const double least = least_cosine(threshold);
    std::vector<int64_t> into(facts.keep.size());
    for (int64_t i = 0; i < tokens; i++) {
        into[size_t(i)] = facts.keep[size_t(i)] ? i : joins_none;
        if (facts.keep[size_t(i)]) continue;
        double best = least;
        for (int64_t j = facts.first_target; j < tokens; j++) {
            if (!facts.keep[size_t(j)]) continue;
            const double cosine = dot_rows(&keys[size_t(i * facts.dim)], &keys[size_t(j * facts.dim)], facts.dim);
            if (cosine >= best) best = cosine, into[size_t(i)] = j;
        }
    }
    return into;
}

std::vector<float> weighted_mean(std::span<const float* const> rows, std::span<const int64_t> weights, int64_t dim) {
    std::vector<float> out;
    double all = 0;
    for (const int64_t weight : weights)
        all += double(weight);
    for (int64_t d = 0; d < dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < rows.size(); i++)
            sum += double(weights[i]) * double(rows[i][d]);
        out.push_back(float(sum / all));
    }
    return out;
}

}  // namespace kvc

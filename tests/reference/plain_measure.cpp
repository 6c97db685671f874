#include "tests/reference/plain_measure.h"

#include <algorithm>

#include "core/policy/key_statistics.h"
#include "core/policy/merging.h"

namespace kvc_plain {

using namespace kvc;

std::vector<float> rows_of(const KernelTable& kernels, const LayerFormat& format, const TokenList& tokens, bool keys,
                           const Reach& reach) {
    const auto dim = static_cast<size_t>(keys ? format.k_dim : format.v_dim);
    const bool rotated = keys ? format.codec.k.rotate : format.codec.v.rotate;
    std::vector<float> page(static_cast<size_t>(page_tokens) * dim), rows(static_cast<size_t>(tokens.n) * dim);
    for (int64_t i = 0; i < tokens.n; i++) {
        const TokenSource& source = tokens.sources[tokens.places[i] / page_tokens];
        kernels.read(*source.format, source.form, reach(source.record), keys ? page.data() : nullptr, keys ? nullptr : page.data());
        float* const row = &rows[static_cast<size_t>(i) * dim];
        std::copy_n(&page[tokens.places[i] % page_tokens * dim], dim, row);
        if (rotated) rotate(row, static_cast<int>(dim));
    }
    return rows;
}

void route(const KernelTable& kernels, const RouteJob& job, const Reach& reach) {
    const auto dim = static_cast<size_t>(job.format->k_dim);
    const std::vector<double> leaving = unit_rows(rows_of(kernels, *job.format, job.leaving, true, reach), job.format->k_dim),
                              kept = unit_rows(rows_of(kernels, *job.format, job.kept, true, reach), job.format->k_dim);
    for (int64_t i = 0; i < job.leaving.n; i++) {
        double best = job.least;
        job.out[i] = -1;
        for (int64_t j = 0; j < job.kept.n; j++) {
            const double cosine =
                dot_rows(&leaving[static_cast<size_t>(i) * dim], &kept[static_cast<size_t>(j) * dim], job.format->k_dim);
            if (cosine >= best) best = cosine, job.out[i] = j;
        }
    }
}

void fold(const KernelTable& kernels, const FoldJob& job, const Reach& reach) {
    const LayerFormat& f = *job.format;
    const auto k_dim = static_cast<size_t>(f.k_dim), v_dim = static_cast<size_t>(f.v_dim);
    const std::vector<float> keys = rows_of(kernels, f, job.members, true, reach),
                             values = rows_of(kernels, f, job.members, false, reach);
    for (int64_t fold = 0, begin = 0; fold < job.folds; begin = job.ends[fold++]) {
        std::vector<const float*> k, v;
        const std::vector<int64_t> weights(job.weights + begin, job.weights + job.ends[fold]);
        for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(job.ends[fold]); i++)
            k.push_back(&keys[i * k_dim]), v.push_back(&values[i * v_dim]);
        float* const row = job.rows + fold * (f.k_dim + f.v_dim);
        const std::vector<float> k_mean = weighted_mean(k, weights, f.k_dim), v_mean = weighted_mean(v, weights, f.v_dim);
        std::copy_n(job.new_keys ? k_mean.data() : k[0], k_dim, row);
        std::copy_n(v_mean.data(), v_dim, row + k_dim);
    }
}

void measure(const KernelTable& kernels, const StatisticJob& job, const Reach& reach) {
    const LayerFormat& f = *job.format;
    const std::vector<float> keys = rows_of(kernels, f, job.tokens, true, reach);
    QueryMoments queries;
    if (job.statistic == KeyStatistic::logits) {
        const int64_t n = job.heads * f.k_dim;
        queries = {job.heads, {job.mean, job.mean + n}, {job.variance, job.variance + n}};
    }
    const std::vector<double> numbers = key_statistics(job.statistic, keys, f.k_dim, queries);
    std::copy(numbers.begin(), numbers.end(), job.out);
    if (!job.value_norms) return;
    const std::vector<float> norms = row_norms(rows_of(kernels, f, job.tokens, false, reach), f.v_dim);
    std::copy(norms.begin(), norms.end(), job.value_norms);
}

}  // namespace kvc_plain

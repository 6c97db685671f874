#include "tests/reference/plain_measure.h"

#include <algorithm>

#include "core/policy/key_statistics.h"

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

// Expected attention: what future queries will attend to, if they are distributed like those that attend has just seen.
//
// For a Gaussian query the expectation of exp(q k / sqrt(d)) is exp(mean k / sqrt(d) + k' covariance k / (2 d)). The published method
// turns statistics of queries before RoPE to future positions; here they are those of the last queries as they came, RoPE included,
// and of the covariance the diagonal. The probability is weighted by the norm of the value it would bring.
#include <algorithm>
#include <cmath>

#include "core/policy/policy.h"

namespace kvc {

void expected_attention_score(const TokenFacts& facts, std::span<double> out) {
    constexpr double small = 0.02;  // so that values count where attention is negligible
    const size_t dim = size_t(facts.k_dim), tokens = out.size();
    const double scale = 1 / std::sqrt(double(dim));
    std::fill(out.begin(), out.end(), 0.0);
    std::vector<double> logits(tokens);
    double heads = 0;
    for (const QuerySums& queries : facts.queries) {
        if (queries.count == 0 || tokens == 0) continue;
        heads++;
        std::vector<double> mean(dim), variance(dim);
        for (size_t d = 0; d < dim; d++) {
            mean[d] = double(queries.sum[d]) * QuerySums::unit / double(queries.count);
            variance[d] = std::max(0.0, double(queries.square[d]) * QuerySums::unit / double(queries.count) - mean[d] * mean[d]);
        }
        for (size_t i = 0; i < tokens; i++) {
            const std::span<const float> key = facts.keys.subspan(i * dim, dim);
            double logit = 0;
            for (size_t d = 0; d < dim; d++)
                logit += key[d] * scale * (mean[d] + key[d] * scale * variance[d] / 2);
            logits[i] = logit;
        }
        const double largest = *std::max_element(logits.begin(), logits.end());
        double total = 0;
        for (double& logit : logits)
            total += logit = std::exp(logit - largest);
        for (size_t i = 0; i < tokens; i++)
            out[i] += logits[i] / total;
    }
    for (size_t i = 0; i < tokens; i++)
        out[i] = (out[i] / std::max(heads, 1.0) + small / double(tokens)) * double(facts.value_norms[i]);
}

}  // namespace kvc

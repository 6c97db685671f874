// Expected attention: what future queries will attend to, if they are distributed like those that attend has just seen.
//
// For a Gaussian query the expectation of exp(q k / sqrt(d)) is exp(mean k / sqrt(d) + k' covariance k / (2 d)). The published method
// turns statistics of queries before RoPE to future positions; here they are those of the last queries as they came, RoPE included,
// and of the covariance the diagonal. The probability is weighted by the norm of the value it would bring.
//
// Exponentials are the host's wherever the logits were taken: no two libraries round them alike.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/policy/policy.h"

namespace kvc {

void expected_attention_score(const TokenFacts& facts, std::span<double> out) {
    constexpr double small = 0.02;  // so that values count where attention is negligible
    const size_t tokens = out.size();
    std::fill(out.begin(), out.end(), 0.0);
    if (tokens == 0) return;
    const size_t heads = facts.of_keys.size() / tokens;
    for (size_t h = 0; h < heads; h++) {
        const std::span<const double> logits = facts.of_keys.subspan(h * tokens, tokens);
        const double largest = *std::max_element(logits.begin(), logits.end());
        std::vector<double> weights(tokens);
        double total = 0;
        for (size_t i = 0; i < tokens; i++)
            total += weights[i] = std::exp(logits[i] - largest);
        for (size_t i = 0; i < tokens; i++)
            out[i] += weights[i] / total;
    }
    for (size_t i = 0; i < tokens; i++)
        out[i] = (out[i] / double(std::max(heads, size_t{1})) + small / double(tokens)) * double(facts.value_norms[i]);
}

}  // namespace kvc

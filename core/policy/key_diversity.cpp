// KeyDiff: keys that point where most keys point say little that others do not; those most unlike the mean direction stay.
#include <cmath>

#include "core/policy/policy.h"

namespace kvc {

void key_diversity_score(const TokenFacts& facts, std::span<double> out) {
    const size_t dim = size_t(facts.k_dim);
    std::vector<double> mean(dim), norms(out.size());
    for (size_t i = 0; i < out.size(); i++) {
        const std::span<const float> key = facts.keys.subspan(i * dim, dim);
        double square = 0;
        for (const float x : key)
            square += double(x) * x;
        norms[i] = square > 0 ? std::sqrt(square) : 1;
        for (size_t d = 0; d < dim; d++)
            mean[d] += key[d] / norms[i];
    }
    for (size_t i = 0; i < out.size(); i++) {
        const std::span<const float> key = facts.keys.subspan(i * dim, dim);
        double dot = 0;
        for (size_t d = 0; d < dim; d++)
            dot += key[d] * mean[d];
        out[i] = -dot / norms[i];
    }
}

}  // namespace kvc

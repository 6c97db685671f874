// Clusters by cosine: the tokens whose keys are most like a newer one's leave first, and join what they are most like (merging.h), so
// that similar neighbours become one token until the budget is met.
#include <algorithm>

#include "core/policy/merging.h"
#include "core/policy/policy.h"

namespace kvc {
namespace {

constexpr int64_t reach = 256;  // newer tokens that each is compared with: similar keys lie close together

}  // namespace

void cluster_score(const TokenFacts& facts, std::span<double> out) {
    const std::vector<double> keys = unit_rows(facts.keys, facts.k_dim);
    const int64_t tokens = int64_t(out.size());
    for (int64_t i = 0; i < tokens; i++) {
        double most = -1;
        for (int64_t j = i + 1; j < std::min(tokens, i + 1 + reach); j++)
            most = std::max(most, dot_rows(&keys[size_t(i * facts.k_dim)], &keys[size_t(j * facts.k_dim)], facts.k_dim));
        out[size_t(i)] = -most;
    }
}

}  // namespace kvc

// Clusters by cosine: the tokens whose keys are most like a newer one's leave first, and join what they are most like (merging.h), so
// that similar neighbours become one token until the budget is met.
#include "core/policy/policy.h"

namespace kvc {

void cluster_score(const TokenFacts& facts, std::span<double> out) {
    for (size_t i = 0; i < out.size(); i++)
        out[i] = -facts.of_keys[i];
}

}  // namespace kvc

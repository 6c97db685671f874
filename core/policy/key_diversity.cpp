// KeyDiff: keys that point where most keys point say little that others do not; those most unlike the mean direction stay.
#include "core/policy/policy.h"

namespace kvc {

void key_diversity_score(const TokenFacts& facts, std::span<double> out) {
    for (size_t i = 0; i < out.size(); i++)
        out[i] = -facts.of_keys[i];
}

}  // namespace kvc

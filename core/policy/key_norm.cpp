// Key norm: keys of small L2 norm tend to draw attention, so those of large norm leave first. Needs no attention at all.
#include "core/policy/policy.h"

namespace kvc {

void key_norm_score(const TokenFacts& facts, std::span<double> out) {
    for (size_t i = 0; i < out.size(); i++)
        out[i] = -facts.of_keys[i];
}

}  // namespace kvc

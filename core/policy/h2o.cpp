// H2O: tokens that got the most attention since they came (heavy hitters) stay.
#include <algorithm>

#include "core/policy/policy.h"

namespace kvc {

void h2o_score(const TokenFacts& facts, std::span<double> out) { std::copy(facts.mass.begin(), facts.mass.end(), out.begin()); }

}  // namespace kvc

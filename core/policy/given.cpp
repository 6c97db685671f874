// The caller's own scores, taken as they are.
#include <algorithm>

#include "core/policy/policy.h"

namespace kvc {

void given_score(const TokenFacts& facts, std::span<double> out) { std::copy(facts.given.begin(), facts.given.end(), out.begin()); }

}  // namespace kvc

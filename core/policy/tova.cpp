// TOVA: what the newest query attends to least leaves. Its observation window is that one query.
#include <algorithm>

#include "core/policy/policy.h"

namespace kvc {

void tova_score(const TokenFacts& facts, std::span<double> out) { std::copy(facts.mass.begin(), facts.mass.end(), out.begin()); }

}  // namespace kvc

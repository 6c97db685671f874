// Mean attention: what each query since the token came gave it on average. h2o's sum favours the old, which more queries have seen.
//
// RoCo takes the mean, too, and protects tokens whose attention varies most; here the newest ones are protected, as under all policies.
#include "core/policy/policy.h"

namespace kvc {

void mean_attention_score(const TokenFacts& facts, std::span<double> out) {
    for (size_t i = 0; i < out.size(); i++)
        out[i] = facts.seen_by[i] == 0 ? 0 : facts.mass[i] / double(facts.seen_by[i]);
}

}  // namespace kvc

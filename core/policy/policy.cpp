#include "core/policy/policy.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace kvc {

#define KVC_POLICY(function, source) void function##_score(const TokenFacts& facts, std::span<float> out);
#include "core/policy/policies.def"
#undef KVC_POLICY

namespace {

constexpr Policy policies[] = {
#define KVC_POLICY(function, source) {#function, source, function##_score},
#include "core/policy/policies.def"
#undef KVC_POLICY
};

}  // namespace

const Policy* find_policy(const char* name) {
    for (const Policy& policy : policies) {
        if (std::strcmp(policy.name, name) == 0) return &policy;
    }
    return nullptr;
}

std::vector<bool> select(std::span<const float> scores, int64_t count) {
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const size_t kept = std::min(size_t(std::max<int64_t>(count, 0)), order.size());
    const auto better = [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; };
    std::nth_element(order.begin(), order.begin() + std::ptrdiff_t(kept), order.end(), better);
    std::vector<bool> keep(scores.size(), false);
    for (size_t i = 0; i < kept; i++) keep[order[i]] = true;
    return keep;
}

}  // namespace kvc

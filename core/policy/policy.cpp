#include "core/policy/policy.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace kvc {

#define KVC_POLICY(function, ...) void function##_score(const TokenFacts& facts, std::span<double> out);
#define KVC_POLICY_PRESET(...)
#include "core/policy/policies.def"
#undef KVC_POLICY
#undef KVC_POLICY_PRESET

namespace {

constexpr Policy policies[] = {
#define KVC_POLICY(function, source, ...) {#function, source, function##_score, {__VA_ARGS__}},
#define KVC_POLICY_PRESET(...)
#include "core/policy/policies.def"
#undef KVC_POLICY
#undef KVC_POLICY_PRESET
};

constexpr PolicyPreset presets[] = {
#define KVC_POLICY(...)
#define KVC_POLICY_PRESET(name, policy, settings) {#name, #policy, settings},
#include "core/policy/policies.def"
#undef KVC_POLICY
#undef KVC_POLICY_PRESET
};

}  // namespace

int policy_count() { return int(std::size(policies)); }

const Policy& policy_at(int index) { return policies[index]; }

const Policy* find_policy(const char* name) {
    for (const Policy& policy : policies) {
        if (std::strcmp(policy.name, name) == 0) return &policy;
    }
    return nullptr;
}

int policy_preset_count() { return int(std::size(presets)); }

const PolicyPreset& policy_preset_at(int index) { return presets[index]; }

const PolicyPreset* find_policy_preset(const char* name) {
    for (const PolicyPreset& preset : presets) {
        if (std::strcmp(preset.name, name) == 0) return &preset;
    }
    return nullptr;
}

std::vector<bool> select(std::span<const double> scores, int64_t count) {
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), size_t{0});
    const size_t kept = std::min(size_t(std::max<int64_t>(count, 0)), order.size());
    const auto better = [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a > b; };
    std::nth_element(order.begin(), order.begin() + std::ptrdiff_t(kept), order.end(), better);
    std::vector<bool> keep(scores.size(), false);
    for (size_t i = 0; i < kept; i++)
        keep[order[i]] = true;
    return keep;
}

int64_t HeadScores::fixed() const { return std::count(open.begin(), open.end(), false); }

std::vector<bool> keep_within(const HeadScores& head, int64_t budget) {
    std::vector<double> candidates;
    for (size_t i = 0; i < head.scores.size(); i++) {
        if (head.open[i]) candidates.push_back(head.scores[i]);
    }
    const std::vector<bool> chosen = select(candidates, budget - head.fixed());
    std::vector<bool> keep(head.scores.size(), true);
    for (size_t i = 0, c = 0; i < keep.size(); i++) {
        if (head.open[i]) keep[i] = chosen[c++];
    }
    return keep;
}

std::vector<std::vector<bool>> keep_competing(std::span<const HeadScores> heads, int64_t budget, std::span<const int64_t> floors) {
    std::vector<std::vector<bool>> keep;
    std::vector<double> pool;                     // what no floor has taken, by position, then by head: of equal scores the later stays
    std::vector<std::pair<size_t, size_t>> from;  // head and token of each
    int64_t room = budget * int64_t(heads.size());
    size_t longest = 0;
    for (size_t h = 0; h < heads.size(); h++) {
        keep.push_back(keep_within(heads[h], heads[h].fixed() + floors[h]));
        room -= std::count(keep.back().begin(), keep.back().end(), true);
        longest = std::max(longest, heads[h].scores.size());
    }
    for (size_t i = 0; i < longest; i++) {
        for (size_t h = 0; h < heads.size(); h++) {
            if (i >= heads[h].scores.size() || keep[h][i]) continue;
            pool.push_back(heads[h].scores[i]);
            from.emplace_back(h, i);
        }
    }
    const std::vector<bool> chosen = select(pool, room);
    for (size_t i = 0; i < chosen.size(); i++) {
        if (chosen[i]) keep[from[i].first][from[i].second] = true;
    }
    return keep;
}

}  // namespace kvc

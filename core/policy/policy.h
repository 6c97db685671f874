// Eviction policies. A policy is a score per token and nothing else: it sees facts about tokens, never pages or codecs.
// Protection of sinks and window, budgets and the freeing of memory live outside, once. A new policy is one file with one function
// and one line in policies.def.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace kvc {

// What is known of the tokens of one (sequence, layer, kv head) that may be evicted, oldest first.
struct TokenFacts {
    std::span<const int64_t> positions;
    std::span<const float> given;  // the caller's score of each, or empty
};

struct Policy {
    const char* name;
    const char* source;  // the paper
    void (*score)(const TokenFacts& facts, std::span<float> out);  // higher = keep
};

const Policy* find_policy(const char* name);  // nullptr if there is none

// Which of the tokens stay: the `count` highest scores; of equal ones the higher positions.
std::vector<bool> select(std::span<const float> scores, int64_t count);

}  // namespace kvc

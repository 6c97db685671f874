// Eviction policies. A policy is a score per token and nothing else: it sees facts about tokens, never pages or codecs.
// Protection of sinks and newest tokens, budgets and the freeing of memory live outside, once. A new policy is one file with one
// function and one line in policies.def.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/key_statistics.h"

namespace kvc {

// How scores are smoothed over neighbouring tokens.
enum class Pooling : uint8_t { none, average, maximum };

// What is known of the tokens of one (sequence, layer, kv head), oldest first; sinks and newest tokens, which stay anyway, included.
// Facts that the policy does not ask for are empty.
struct TokenFacts {
    std::span<const int64_t> positions;
    std::span<const float> given;        // the caller's score of each
    std::span<const double> mass;        // attention that each got, in queries
    std::span<const int64_t> seen_by;    // queries since each came whose attention counted
    std::span<const double> of_keys;     // the statistic that the policy asks for: [tokens], or of logits [query heads][tokens]
    std::span<const float> value_norms;  // L2
    Pooling pooling = Pooling::none;
    int64_t pool_width = 1;
};

// Which queries the mass of a policy counts.
enum class MassUse : uint8_t {
    none,
    accumulated,  // all since the token came
    latest,       // those of the last observation window
};

struct PolicyTraits {
    bool by_position = false;  // keeps the newest tokens: a closed rule of positions, without boundaries
    bool given = false;        // needs the caller's scores
    MassUse mass = MassUse::none;
    KeyStatistic keys = KeyStatistic::none;
    bool values = false, queries = false;
    int64_t recent_percent = 50;  // of the budget, protected unless the text says otherwise
    int64_t observe = 0;          // default observation window in positions; 0: all of them
    Pooling pooling = Pooling::none;
    int64_t pool_width = 1;
    bool mean = false;    // divides mass by the number of queries
    bool merges = false;  // what leaves joins what is most like it, unless the text says otherwise
};

struct Policy {
    const char* name;
    const char* source;                                             // the paper
    void (*score)(const TokenFacts& facts, std::span<double> out);  // higher = keep
    PolicyTraits traits;

    bool needs_attend() const { return traits.mass != MassUse::none || traits.queries; }
};

int policy_count();
const Policy& policy_at(int index);
const Policy* find_policy(const char* name);  // nullptr if there is none

// A policy with settings that stand before those of the text.
struct PolicyPreset {
    const char* name;
    const char* policy;
    const char* settings;
};

int policy_preset_count();
const PolicyPreset& policy_preset_at(int index);
const PolicyPreset* find_policy_preset(const char* name);  // nullptr if there is none

// Which of the tokens stay: the `count` highest scores; of equal ones the higher positions.
std::vector<bool> select(std::span<const double> scores, int64_t count);

// The scores of one kv head's tokens, and which of them may leave.
struct HeadScores {
    std::vector<double> scores;
    std::vector<bool> open;

    int64_t fixed() const;  // tokens that stay whatever their score
};

// Each head keeps `budget` tokens.
std::vector<bool> keep_within(const HeadScores& head, int64_t budget);
// Ada-KV (Feng et al., arXiv 2407.11550): the heads of a layer share budget * heads tokens and compete for them by score; head h keeps
// floors[h] of its own best besides what must stay, which counts, too.
std::vector<std::vector<bool>> keep_competing(std::span<const HeadScores> heads, int64_t budget, std::span<const int64_t> floors);

}  // namespace kvc

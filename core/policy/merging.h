// Merging: a token that leaves joins a kept one instead of being forgotten. D2O (Wan et al., arXiv 2406.13035) folds what eviction drops
// into the most similar kept key, CaM (Zhang et al., ICML 2024) values alone, KVMerger (Wang et al., arXiv 2407.08454) clusters of
// similar keys; ToMe (Bolya et al., arXiv 2210.09461) adds log(count) to the logits of tokens that stand for others.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace kvc {

enum class MergeParts : uint8_t { none, values, keys_and_values };

struct MergeRule {
    static constexpr int64_t no_threshold = -1;

    MergeParts parts = MergeParts::none;
    int64_t threshold = 900;  // thousandths: the least cosine of two keys whose tokens may join; no_threshold: any
    bool bias = true;         // log(count) is added to the logits
    // Where a policy merges: in these layers, or in the middle third of all.
    int64_t first_layer = 0, last_layer = INT64_MAX;
    bool middle_layers = false;

    bool acts_on(int64_t layer, int64_t layers) const {
        if (middle_layers) return layers / 3 <= layer && layer < layers - layers / 3;
        return first_layer <= layer && layer <= last_layer;
    }
};

// What is known of one head's tokens, ascending by position.
struct MergeFacts {
    std::span<const float> keys;  // [tokens][dim]
    int64_t dim = 0;
    const std::vector<bool>& keep;
    int64_t first_target = 0;  // tokens before it (sinks) are not joined: they hold attention that belongs to no content
};

constexpr int64_t joins_none = -1;

// Per token: the kept one that it joins (the most similar key; of equal ones the newest), itself if it stays, or joins_none: it is dropped.
std::vector<int64_t> route_by_cosine(const MergeFacts& facts, int64_t threshold);

double least_cosine(int64_t threshold);

// The mean of rows [n][dim], each weighing so many tokens.
std::vector<float> weighted_mean(std::span<const float* const> rows, std::span<const int64_t> weights, int64_t dim);

}  // namespace kvc

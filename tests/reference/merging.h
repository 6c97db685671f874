// Merging in double precision, from its definitions: which token each joins, what the kept ones become, and attention that weighs them
// by what they stand for. Knows nothing of pages, codes or records.
#pragma once

#include <cstdint>
#include <vector>

namespace kvc_reference {

// The live tokens of one kv head, ascending by position.
struct MergedHead {
    std::vector<int64_t> positions, counts;
    std::vector<std::vector<double>> k, v;
};

constexpr int64_t joins_nothing = -1;

// For each token the kept one with the most similar key, from `first_target` on; itself if it stays; joins_nothing below the threshold.
std::vector<int64_t> nearest_kept(const MergedHead& head, const std::vector<bool>& keep, int64_t first_target, double threshold);
// The head afterwards: means weighted by counts; keys only if asked.
MergedHead merged(const MergedHead& head, const std::vector<int64_t>& into, bool keys);
// softmax(log(count) + scale q.k) v over all tokens, and the log-sum-exp.
std::vector<double> weighed_attention(const MergedHead& head, const std::vector<float>& q, double scale, bool biased, double* out_lse);

}  // namespace kvc_reference

// What policies ask of keys and values, in a few numbers for each token, so that a device can take them where its pages lie.
//
// A number is the same bits wherever it is taken: doubles from the rows in the basis of append, operation by operation in the order
// given here, none contracted. So every backend keeps the same tokens.
#pragma once
#include "core/backend/kernel_table.h"

namespace kvc {

enum class KeyStatistic : uint8_t {
    none,
    // The sum of k[d]^2.
    square,
    // KeyDiff: the dot product of the key and the sum of all unit keys, divided by the key's length. The sum is taken in runs of
    // statistic_run tokens, then over the runs. A key of zeros counts as one of length 1.
    alignment,
    // Expected attention: for each query head the sum of x (mean[d] + x variance[d] / 2), with x = k[d] / sqrt(k_dim).
    logits,
    // The largest cosine with one of the similarity_reach tokens that follow; -1 if none does. Products of the unit keys are summed in
    // four chains, of the channels d % 4; then chain 0 + 1, plus chain 2 + 3.
    similarity,
};
constexpr int64_t statistic_run = 32;
constexpr int64_t similarity_reach = 256;  // similar keys lie close together

// A record that tokens lie in.
struct TokenSource {
    const LayerFormat* format;  // of this record
    KernelTable::Form form;
    const std::byte* record;
};

// Tokens of one (layer, kv head), in order.
struct TokenList {
    const TokenSource* sources;
    int64_t n_sources;
    const uint32_t* places;  // [n]: source * page_tokens + slot
    int64_t n;
};

struct StatisticJob {
    const LayerFormat* format;  // of the layer: dims and the rotation that rows are taken back from
    TokenList tokens;
    KeyStatistic statistic;
    int64_t heads;       // of queries, for logits; otherwise 1
    const double* mean;  // [heads][k_dim]
    const double* variance;
    double* out;         // [heads][n]
    float* value_norms;  // [n]: lengths of the values, or nullptr
};

}  // namespace kvc

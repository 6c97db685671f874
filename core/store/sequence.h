// A sequence: per layer and kv head, the tables of its pages.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/backend/kernel_table.h"
#include "core/store/page_rule.h"
#include "core/store/query_sums.h"

namespace kvc {

// Records are private to a sequence wherever slots at or above its length can be written: the last 16-bit page and unfinished sinks.
// Everything else may be shared with forks. During a step the tables hold entries beyond what the layer's PageState and the
// sequence's length publish; abort cuts them off again.
struct HeadPages {
    RecordId sinks = 0;
    std::vector<PageEntry> coded;    // entry e is page first_coded + e
    std::vector<PageEntry> window;   // entry e is page first_window + e
    std::vector<int64_t> mass;       // per token index, units of 2^-30; empty until a step accumulates
    std::vector<QuerySums> queries;  // per query head of the group; empty unless the policy asks
    std::vector<TokenCount> counts;  // tokens that others joined, ascending by position; those that have left may still be there
};

// The entry of a token that others joined, or nullptr.
inline const TokenCount* find_count(const std::vector<TokenCount>& counts, int64_t position) {
    const auto below = [&](const TokenCount& count) { return count.position < position; };
    const auto found = std::partition_point(counts.begin(), counts.end(), below);
    return found != counts.end() && found->position == position ? &*found : nullptr;
}

inline int64_t count_at(const std::vector<TokenCount>& counts, int64_t position) {
    const TokenCount* const found = find_count(counts, position);
    return found ? found->count : 1;
}

struct LayerPages {
    PageState state;
    int64_t budget = 0, recent = 0;  // of the policy, in tokens per kv head; 0: it leaves the layer alone
    std::vector<HeadPages> heads;
};

// Tokens that a step on a device published before the device has said whether all of them could be stored.
struct UnsettledStore {
    int64_t tag;           // of the stores
    int64_t first, count;  // by index
};

struct Sequence {
    int64_t first_position = 0;
    int64_t length = 0;      // committed tokens
    int64_t prompt_end = 0;  // as an index: queries below it use the prompt kernels
    int64_t floor = 0;       // lowest exact length that events (eviction, accumulation, inexact cuts) left
    int64_t mass_queries = 0;
    int64_t context = 0;  // tokens that a budget in percent is a share of
    bool in_step = false;
    bool overdue = false;          // the policy is to act before the next step
    int64_t bad_from = INT64_MAX;  // index of the first token that turned out to be none that can be stored
    std::vector<UnsettledStore> unsettled;
    std::vector<LayerPages> layers;
};

}  // namespace kvc

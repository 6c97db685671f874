// Budgets: what a policy's amount comes to in tokens of each layer, and the records that so many tokens can take.
#pragma once
#include <cstdint>
#include <vector>

#include "core/cache/config.h"

namespace kvc {

// Of one layer, per kv head; tokens 0: the policy leaves the layer alone.
struct LayerBudget {
    int64_t tokens = 0;
    int64_t recent = 0;  // newest tokens that stay, within it
};

// Budgets of all layers. `context`: what a share is of. `override` replaces the amount of the policy (tokens, or bytes where it counts
// bytes); 0: none. Refuses budgets below what must stay.
Result<std::vector<LayerBudget>> resolve_budgets(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t context,
                                                 int64_t override);
// The same refusals, as early as a cache's options tell: a share of an unknown context waits for the sequences.
Status check_budgets(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t context_tokens);

// Records that one kv head of a layer can hold between steps, at most.
struct HeadRecords {
    int64_t window = 0, codes = 0, sides = 0;
};

// While the policy holds the layer to the budget, at any length, of a sequence that keeps its window. Where a sealed prefix or an inexact
// cut took it, codes lie in its place, more of them; a budget in bytes has room for those, too.
HeadRecords records_within(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget);
// At one length, whether the policy has acted yet or not.
HeadRecords records_at(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget, int64_t length);
// The page ranges of a layer at a length.
PageState state_at(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget, int64_t length);
// Side records that an eviction takes before it gives others back.
int64_t sides_in_passing(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget);

}  // namespace kvc

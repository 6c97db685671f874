// Memory planning: the same arithmetic that steps and the arena use, run without storing anything.
#pragma once
#include "core/cache/config.h"

namespace kvc {

struct PlanRequest {
    int64_t tokens = 0;  // per sequence
    int64_t sequences = 1;
    int64_t step_tokens = 512;  // of a prompt per step
    bool partial_commit = false;
    int64_t budget_bytes = 0;    // 0: leave the two maxima out
    int64_t context_tokens = 0;  // what a policy's budget in percent is a share of; 0: tokens
};

struct Plan {
    int64_t arena_bytes = 0, slab_bytes = 0, record_bytes = 0, fp16_bytes = 0;
    int64_t max_tokens = 0, max_sequences = 0;
    double codec_bits = 0, effective_bits = 0;
    int64_t checkpoint_bytes = 0;
};

// Prompts run one after another in steps of step_tokens up to one token before `tokens`; then all sequences decode the last token
// in one step. arena_bytes is the least arena that serves every moment of it; a request that no arena can hold is refused.
// A policy holds its budgets between steps. checkpoint_bytes: records of an entry of the prefix index at that length which its source
// does not share any more once it has gone on, by as much as any window is long.
Result<Plan> plan_memory(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request);

// Bits per element of code records, mean over the elements of all layers.
double codec_bits(const std::vector<Layer>& layers);
// Bytes of `tokens` tokens as plain 16-bit numbers, all layers.
Size fp16_bytes(const std::vector<Layer>& layers, int64_t tokens);

}  // namespace kvc

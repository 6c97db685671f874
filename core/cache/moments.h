// What the sequences of a request hold at each moment that can need the most slabs.
//
// Need does not grow with every token: a token that closes a page can free more than it takes. So the moments of a request are those of
// every shorter one as well, and of them the few that matter: 64 tokens more hold as much of everything or more, unless the end of a step or
// a boundary (of a policy, of ages) lies between. Where pages step down by age that is so of 512 tokens.
#pragma once
#include <span>
#include <vector>

#include "core/cache/budget.h"
#include "core/cache/planner.h"
#include "core/cache/prompt_steps.h"
#include "core/cache/record_peaks.h"

namespace kvc {

class Moments {
public:
    Moments(const std::vector<Layer>& layers, const PolicySpec& policy, std::vector<LayerBudget> budgets);

    // All moments of prompts of up to request.tokens - 1 tokens and of the decode steps behind them.
    void collect(const PlanRequest& request);
    // Slabs at the worst of them. Slabs that are empty at one moment serve another record size at the next: what counts is the worst
    // moment, not the sum of each size's own.
    int64_t slabs(int64_t slab_bytes) const;

    // What one sequence holds between steps, in bytes of records.
    Size bytes_at_rest(int64_t length) const;
    // What an entry of the prefix index holds alone, once its source has gone on.
    Size bytes_of_checkpoint(int64_t length) const;

private:
    // Numbers of records, parallel to sizes_.
    using Counts = std::span<int64_t>;

    // Layers that hold the same, and how many.
    struct Kind {
        size_t layer;
        int64_t times;
    };
    bool same_need(size_t a, size_t b) const;
    size_t class_of(int64_t record_bytes) const;  // which of sizes_
    void add(Counts counts, int64_t record_bytes, int64_t n) const;
    void add_codes(const Kind& kind, int64_t length, int64_t codes, Counts counts) const;
    void add_aging(int64_t end, Counts counts) const;
    void add_at_rest(int64_t length, Counts counts) const;
    // What a step needs besides, on one sequence.
    void add_step(int64_t length, int64_t tokens, Counts counts);
    Size bytes_of(const std::vector<int64_t>& counts) const;
    std::vector<int64_t> at_rest(int64_t length) const;
    std::vector<int64_t> in_step(int64_t length, int64_t tokens);
    // Notes a moment: a sequence or several with an open step, and others.
    void note(std::span<const int64_t> open, int64_t open_times, std::span<const int64_t> rest, int64_t rest_times);
    // Whether the next token changes the page ranges of some layer.
    bool ends_run(int64_t length) const { return run_ends_[size_t(length % page_tokens)]; }
    void collect_last_steps(std::span<const StepStart> starts, int64_t others);
    void collect_decoding(int64_t longest, int64_t sequences);
    void collect_earlier_steps(std::span<const StepStart> starts, int64_t longest, int64_t others);

    const std::vector<Layer>& layers_;
    const PolicySpec& policy_;
    std::vector<LayerBudget> budgets_;
    std::vector<Kind> kinds_;
    std::vector<int64_t> sizes_;  // of records, ascending
    std::vector<bool> run_ends_;  // by length modulo page_tokens
    StepCuts cuts_;
    bool partial_commit_ = false;
    RecordPeaks peaks_;
    std::vector<int64_t> sum_, staged_;  // of no meaning between calls
};

}  // namespace kvc

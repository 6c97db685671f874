// What the sequences of a request hold at each moment that can need the most slabs.
//
// Need does not grow with every token: a token that closes a page can free more than it takes. So the moments of a request are those of
// every shorter one as well, and of them the few that matter: 64 tokens more hold as much of everything or more, unless the end of a step or
// a boundary (of a policy, of ages) lies between; these repeat their places within pages after 64 / gcd(64, period).
#pragma once
#include <compare>
#include <span>
#include <vector>

#include "core/cache/budget.h"
#include "core/cache/planner.h"

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
    struct StepSpan {
        int64_t length, count;
        auto operator<=>(const StepSpan&) const = default;
    };
    // Which counts, and how often: of sequences with an open step, and of the others.
    struct Moment {
        size_t open;
        int64_t open_times;
        size_t rest;
        int64_t rest_times;
    };

    bool same_need(size_t a, size_t b) const;
    size_t class_of(int64_t record_bytes) const;  // which of sizes_
    void add(Counts counts, int64_t record_bytes, int64_t n) const;
    void add_codes(const Kind& kind, int64_t length, int64_t codes, Counts counts) const;
    void add_aging(int64_t end, Counts counts) const;
    void add_at_rest(int64_t length, Counts counts) const;
    // scratch: counts of no meaning.
    void add_in_step(const StepSpan& step, bool partial_commit, Counts counts, Counts scratch) const;
    Counts counts_of(size_t index) { return Counts(counts_).subspan(index * sizes_.size(), sizes_.size()); }
    Size bytes_of(const std::vector<int64_t>& counts) const;
    // Tokens between two boundaries that no step crosses; 0: there are none.
    int64_t boundary_period() const;
    void add_steps_of(int64_t prompt, int64_t step_tokens, std::vector<StepSpan>& steps) const;
    std::vector<int64_t> prompts_up_to(int64_t longest, int64_t step_tokens) const;

    const std::vector<Layer>& layers_;
    const PolicySpec& policy_;
    std::vector<LayerBudget> budgets_;
    std::vector<Kind> kinds_;
    std::vector<int64_t> sizes_;   // of records, ascending
    std::vector<int64_t> counts_;  // of all steps, then of all prompts at rest
    std::vector<Moment> moments_;
};

}  // namespace kvc

// What the sequences of a request hold at each moment that can need the most slabs.
//
// Need does not grow with every token: a token that closes a page can free more than it takes. So the moments of a request are those of
// every shorter one as well, and of them the few that matter: 64 tokens more hold as much of everything or more, unless the end of a step or
// a boundary (of a policy, of ages) lies between; these repeat their places within pages after 64 / gcd(64, period).
#pragma once
#include <compare>
#include <deque>
#include <map>
#include <vector>

#include "core/cache/budget.h"
#include "core/cache/planner.h"

namespace kvc {

// Records by record size, parallel to Moments::sizes.
using RecordCounts = std::vector<int64_t>;

class Moments {
public:
    Moments(const std::vector<Layer>& layers, const PolicySpec& policy, std::vector<LayerBudget> budgets);
    Moments(Moments&&) = default;  // what moments point at stays where it is
    Moments(const Moments&) = delete;

    // All moments of prompts of up to request.tokens - 1 tokens and of the decode steps behind them.
    void collect(const PlanRequest& request);
    // Slabs at the worst of them. Slabs that are empty at one moment serve another record size at the next: what counts is the worst
    // moment, not the sum of each size's own.
    int64_t slabs(int64_t slab_bytes) const;

    const std::vector<int64_t>& sizes() const { return sizes_; }
    // What one sequence holds between steps.
    RecordCounts at_rest(int64_t length) const;
    // What an entry of the prefix index holds alone, once its source has gone on.
    RecordCounts of_checkpoint(int64_t length) const;

private:
    // Layers that hold the same, and how many.
    struct Kind {
        size_t layer;
        int64_t times;
    };
    struct Moment {
        const RecordCounts* open;  // of sequences with an open step
        int64_t open_times;
        const RecordCounts* rest;  // of the others
        int64_t rest_times;
    };
    struct StepSpan {
        int64_t length, count;
        auto operator<=>(const StepSpan&) const = default;
    };

    bool same_need(size_t a, size_t b) const;
    void add(RecordCounts& counts, int64_t record_bytes, int64_t n) const;
    void add_codes(const Kind& kind, int64_t length, int64_t codes, RecordCounts& counts) const;
    void add_aging(int64_t end, RecordCounts& counts) const;
    RecordCounts in_step(int64_t length, int64_t count, bool partial_commit) const;
    // Tokens between two boundaries that no step crosses; 0: there are none.
    int64_t boundary_period() const;
    std::vector<StepSpan> steps_of(int64_t prompt, int64_t step_tokens) const;
    std::vector<int64_t> prompts_up_to(int64_t longest, int64_t step_tokens) const;

    const std::vector<Layer>& layers_;
    const PolicySpec& policy_;
    std::vector<LayerBudget> budgets_;
    std::vector<Kind> kinds_;
    std::vector<int64_t> sizes_;  // ascending
    std::map<StepSpan, RecordCounts> steps_;
    std::deque<RecordCounts> rests_;
    std::vector<Moment> moments_;
};

}  // namespace kvc

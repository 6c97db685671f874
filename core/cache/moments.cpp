#include "core/cache/moments.h"

#include <algorithm>
#include <numeric>

#include "core/base/size.h"

namespace kvc {
namespace {

// After so many periods their boundaries have been at every place within a page that they come to; two more for what is begun and ended.
int64_t periods_to_look_at(int64_t period) { return page_tokens / std::gcd(page_tokens, period) + 2; }

// Coded pages of a kv head that have grown old enough for their last rung, or one below it, at a boundary.
int64_t aged_pages(const Layer& layer, const PageState& state, int64_t rung, int64_t boundary) {
    int64_t end = 0;
    for (int64_t r = rung; r < layer.rungs(); r++)
        end = std::max(end, pages_of_age(layer, r, boundary));
    return std::clamp<int64_t>(std::min(end, state.coded_end) - state.first_coded, 0, state.coded_end);
}

bool same_rule(const PageRule& a, const PageRule& b) {
    return a.sinks == b.sinks && a.window == b.window && a.spare == b.spare && a.sliding_window == b.sliding_window &&
           a.lossless == b.lossless;
}

}  // namespace

Moments::Moments(const std::vector<Layer>& layers, const PolicySpec& policy, std::vector<LayerBudget> budgets)
    : layers_(layers), policy_(policy), budgets_(std::move(budgets)), sizes_(record_sizes(layers)) {
    std::erase(sizes_, 0);  // of forms that a codec does without
    std::sort(sizes_.begin(), sizes_.end());
    sizes_.erase(std::unique(sizes_.begin(), sizes_.end()), sizes_.end());
    for (size_t i = 0; i < layers_.size(); i++) {
        const auto alike = [&](const Kind& kind) { return same_need(kind.layer, i); };
        const auto kind = std::find_if(kinds_.begin(), kinds_.end(), alike);
        if (kind == kinds_.end()) {
            kinds_.push_back({i, 1});
        } else {
            kind->times++;
        }
    }
}

bool Moments::same_need(size_t a, size_t b) const {
    const Layer &x = layers_[a], &y = layers_[b];
    if (x.kv_heads != y.kv_heads || !same_rule(x.rule, y.rule) || x.policy_acts != y.policy_acts || x.ages != y.ages ||
        budgets_[a].tokens != budgets_[b].tokens || x.rungs() != y.rungs()) {
        return false;
    }
    for (int64_t r = 0; r < x.rungs(); r++) {
        if (x.rung(r).code_bytes != y.rung(r).code_bytes) return false;
    }
    return x.format.sink_bytes == y.format.sink_bytes && x.format.window_bytes == y.format.window_bytes;
}

size_t Moments::class_of(int64_t record_bytes) const {
    return size_t(std::lower_bound(sizes_.begin(), sizes_.end(), record_bytes) - sizes_.begin());
}

void Moments::add(Counts counts, int64_t record_bytes, int64_t n) const {
    if (record_bytes > 0 && n > 0) counts[class_of(record_bytes)] += n;
}

// Records of coded pages. What a policy that scores tokens leaves where is unknown: all of it counts at the first rung.
void Moments::add_codes(const Kind& kind, int64_t length, int64_t codes, Counts counts) const {
    const Layer& layer = layers_[kind.layer];
    const bool scored = policy_ && !policy_.is_closed_rule() && layer.policy_acts;
    const PageState state = state_at(policy_, layer, budgets_[kind.layer], length);
    for (int64_t rung = layer.rungs() - 1; rung > 0 && !scored; rung--) {
        const int64_t below = rung + 1 < layer.rungs() ? aged_pages(layer, state, rung + 1, length - length % age_period) : 0;
        const int64_t here = aged_pages(layer, state, rung, length - length % age_period) - below;
        add(counts, layer.rung(rung).code_bytes, kind.times * layer.kv_heads * here);
        codes -= here;
    }
    add(counts, layer.format.code_bytes, kind.times * layer.kv_heads * codes);
}

// New records of pages that step down at the end of a step, while the old ones are still held.
void Moments::add_aging(int64_t end, Counts counts) const {
    if (end % age_period != 0) return;
    for (const Kind& kind : kinds_) {
        const Layer& layer = layers_[kind.layer];
        const PageState state = state_at(policy_, layer, budgets_[kind.layer], end);
        for (int64_t rung = 1; rung < layer.rungs(); rung++) {
            const int64_t pages = aged_pages(layer, state, rung, end) - aged_pages(layer, state, rung, end - age_period);
            add(counts, layer.rung(rung).code_bytes, kind.times * layer.kv_heads * pages);
        }
    }
}

void Moments::add_at_rest(int64_t length, Counts counts) const {
    for (const Kind& kind : kinds_) {
        if (length == 0) break;
        const Layer& layer = layers_[kind.layer];
        const HeadRecords records = records_at(policy_, layer, budgets_[kind.layer], length);
        const int64_t heads = kind.times * layer.kv_heads;
        add(counts, layer.format.sink_bytes, heads);
        add(counts, layer.format.window_bytes, heads * records.window);
        add_codes(kind, length, records.codes, counts);
        add(counts, side_bytes, heads * records.sides);
    }
}

Size Moments::bytes_of(const std::vector<int64_t>& counts) const {
    Size bytes = 0;
    for (size_t c = 0; c < sizes_.size(); c++)
        bytes = bytes + Size(sizes_[c]) * Size(counts[c]);
    return bytes;
}

Size Moments::bytes_at_rest(int64_t length) const {
    std::vector<int64_t> counts(sizes_.size());
    add_at_rest(length, counts);
    return bytes_of(counts);
}

// The window, the sinks if there were more to come, and whatever leaves the source's tables later.
Size Moments::bytes_of_checkpoint(int64_t length) const {
    std::vector<int64_t> counts(sizes_.size());
    for (const Kind& kind : kinds_) {
        const Layer& layer = layers_[kind.layer];
        const LayerFormat& format = layer.format;
        const int64_t heads = kind.times * layer.kv_heads;
        const HeadRecords records = records_at(policy_, layer, budgets_[kind.layer], length);
        const bool leaves = layer.rule.sliding_window > 0 || budgets_[kind.layer].tokens > 0;
        const int64_t partial = length > layer.rule.sinks && layer.rule.page_start(layer.rule.pages(length)) != length ? 1 : 0;
        const int64_t pages = layer.rule.lossless ? (leaves ? records.window + records.codes : partial) : records.window;
        if (length < layer.rule.sinks) add(counts, format.sink_bytes, heads);
        add(counts, format.window_bytes, heads * pages);
        if (leaves && !layer.rule.lossless) add(counts, format.code_bytes, heads * records.codes);
        if (leaves) add(counts, side_bytes, heads * records.sides);
    }
    return bytes_of(counts);
}

// What one sequence holds while the step is open on it.
void Moments::add_in_step(const StepSpan& step, bool partial_commit, Counts counts, Counts scratch) const {
    add_at_rest(step.length, counts);
    // One layer at a time: layers of the same record size share their staging.
    std::fill(scratch.begin(), scratch.end(), 0);
    for (const Kind& kind : kinds_) {
        const Layer& layer = layers_[kind.layer];
        const LayerBudget& budget = budgets_[kind.layer];
        const int64_t heads = kind.times * layer.kv_heads;
        const PageState state = state_at(policy_, layer, budget, step.length);
        const StepNeed need = step_need(layer.rule, state, step.length, step.count, partial_commit);
        if (step.length + step.count > budget.tokens) add(counts, side_bytes, heads * sides_in_passing(policy_, layer, budget));
        add(counts, layer.format.sink_bytes, heads * need.sinks);
        add(counts, layer.format.window_bytes, heads * need.window);
        add(counts, layer.format.code_bytes, heads * need.codes);
        int64_t& staged = scratch[class_of(layer.format.window_bytes)];
        staged = std::max(staged, layer.kv_heads * need.staged);
    }
    for (size_t c = 0; c < scratch.size(); c++)
        counts[c] += scratch[c];
    add_aging(step.length + step.count, counts);
}

int64_t Moments::boundary_period() const {
    const int64_t every = policy_.has_boundaries() ? policy_.every : 0, ages = has_ages(layers_) ? age_period : 0;
    return std::gcd(every, ages);  // of a number and 0: the number
}

// The steps of a prompt that can hold the peak: the last ones before each boundary that counts, and before its end.
void Moments::add_steps_of(int64_t prompt, int64_t step_tokens, std::vector<StepSpan>& steps) const {
    const auto add_last = [&](int64_t from, int64_t to) {
        const int64_t n = ceil_div(to - from, step_tokens);
        for (int64_t i = std::max<int64_t>(0, n - periods_to_look_at(step_tokens)); i < n; i++)
            steps.push_back({from + i * step_tokens, std::min(step_tokens, to - from - i * step_tokens)});
    };
    const int64_t period = boundary_period();
    if (period == 0) {
        add_last(0, prompt);
        return;
    }
    for (int64_t i = std::max<int64_t>(0, prompt / period - periods_to_look_at(period)); i * period < prompt; i++)
        add_last(i * period, std::min(prompt, (i + 1) * period));
}

// Lengths of prompts at which a moment can be the worst: a page's worth before the end of each step that counts.
std::vector<int64_t> Moments::prompts_up_to(int64_t longest, int64_t step_tokens) const {
    std::vector<StepSpan> steps;
    add_steps_of(longest, step_tokens, steps);
    std::vector<int64_t> lengths = {0};
    for (const StepSpan& step : steps) {
        const int64_t end = step.length + step.count;
        for (int64_t length = std::max<int64_t>(0, end - page_tokens); length <= end; length++)
            lengths.push_back(length);
    }
    std::sort(lengths.begin(), lengths.end());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    return lengths;
}

void Moments::collect(const PlanRequest& request) {
    const std::vector<int64_t> prompts = prompts_up_to(request.tokens - 1, request.step_tokens);
    std::vector<StepSpan> steps;
    for (const int64_t prompt : prompts) {
        add_steps_of(prompt, request.step_tokens, steps);
        steps.push_back({prompt, 1});
    }
    std::sort(steps.begin(), steps.end());
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());

    counts_.assign((steps.size() + prompts.size() + 1) * sizes_.size(), 0);
    const Counts scratch = counts_of(steps.size() + prompts.size());
    for (size_t i = 0; i < steps.size(); i++)
        add_in_step(steps[i], request.partial_commit, counts_of(i), scratch);
    for (size_t i = 0; i < prompts.size(); i++)
        add_at_rest(prompts[i], counts_of(steps.size() + i));

    const int64_t others = request.sequences - 1;
    const auto index_of = [&](const StepSpan& step) {
        return size_t(std::lower_bound(steps.begin(), steps.end(), step) - steps.begin());
    };
    if (others == 0) {  // steps are all there is
        for (size_t i = 0; i < steps.size(); i++)
            moments_.push_back({i, 1, 0, 0});
        return;
    }
    std::vector<StepSpan> own;
    for (size_t i = 0; i < prompts.size(); i++) {
        own.clear();
        add_steps_of(prompts[i], request.step_tokens, own);
        for (const StepSpan& step : own)
            moments_.push_back({index_of(step), 1, steps.size() + i, others});
        // All sequences share one step's staging; a decode step has none (a page that arrives in it stays in the window).
        moments_.push_back({index_of({prompts[i], 1}), request.sequences, steps.size() + i, 0});
    }
}

int64_t Moments::slabs(int64_t slab_bytes) const {
    std::vector<int64_t> per_slab;
    for (const int64_t bytes : sizes_)
        per_slab.push_back(records_per_slab(slab_bytes, bytes));
    int64_t most = 0;
    for (const Moment& moment : moments_) {
        const int64_t* const open = &counts_[moment.open * sizes_.size()];
        const int64_t* const rest = &counts_[moment.rest * sizes_.size()];
        int64_t slabs = 0;
        for (size_t c = 0; c < sizes_.size(); c++) {
            const int64_t n = open[c] * moment.open_times + rest[c] * moment.rest_times;
            if (n > 0) slabs += ceil_div(n, per_slab[c]);
        }
        most = std::max(most, slabs);
    }
    return most;
}

}  // namespace kvc

#include "core/cache/moments.h"

#include <algorithm>
#include <numeric>
#include <set>

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

void Moments::add(RecordCounts& counts, int64_t record_bytes, int64_t n) const {
    if (record_bytes <= 0 || n <= 0) return;
    counts[size_t(std::lower_bound(sizes_.begin(), sizes_.end(), record_bytes) - sizes_.begin())] += n;
}

// Records of coded pages. What a policy that scores tokens leaves where is unknown: all of it counts at the first rung.
void Moments::add_codes(const Kind& kind, int64_t length, int64_t codes, RecordCounts& counts) const {
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
void Moments::add_aging(int64_t end, RecordCounts& counts) const {
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

RecordCounts Moments::at_rest(int64_t length) const {
    RecordCounts counts(sizes_.size());
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
    return counts;
}

// The window, the sinks if there were more to come, and whatever leaves the source's tables later.
RecordCounts Moments::of_checkpoint(int64_t length) const {
    RecordCounts counts(sizes_.size());
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
    return counts;
}

// What one sequence holds while a step of `count` tokens is open on it.
RecordCounts Moments::in_step(int64_t length, int64_t count, bool partial_commit) const {
    RecordCounts counts = at_rest(length), staging(sizes_.size());
    for (const Kind& kind : kinds_) {
        const Layer& layer = layers_[kind.layer];
        const LayerBudget& budget = budgets_[kind.layer];
        const int64_t heads = kind.times * layer.kv_heads;
        const StepNeed need = step_need(layer.rule, state_at(policy_, layer, budget, length), length, count, partial_commit);
        if (length + count > budget.tokens) add(counts, side_bytes, heads * sides_in_passing(policy_, layer, budget));
        add(counts, layer.format.sink_bytes, heads * need.sinks);
        add(counts, layer.format.window_bytes, heads * need.window);
        add(counts, layer.format.code_bytes, heads * need.codes);
        // One layer at a time: layers of the same record size share their staging.
        RecordCounts staged(sizes_.size());
        add(staged, layer.format.window_bytes, layer.kv_heads * need.staged);
        for (size_t c = 0; c < staged.size(); c++)
            staging[c] = std::max(staging[c], staged[c]);
    }
    for (size_t c = 0; c < staging.size(); c++)
        counts[c] += staging[c];
    add_aging(length + count, counts);
    return counts;
}

int64_t Moments::boundary_period() const {
    const int64_t every = policy_.has_boundaries() ? policy_.every : 0, ages = has_ages(layers_) ? age_period : 0;
    return std::gcd(every, ages);  // of a number and 0: the number
}

// The steps of a prompt that can hold the peak: the last ones before each boundary that counts, and before its end.
std::vector<Moments::StepSpan> Moments::steps_of(int64_t prompt, int64_t step_tokens) const {
    std::vector<StepSpan> steps;
    const auto add_last = [&](int64_t from, int64_t to) {
        const int64_t n = ceil_div(to - from, step_tokens);
        for (int64_t i = std::max<int64_t>(0, n - periods_to_look_at(step_tokens)); i < n; i++)
            steps.push_back({from + i * step_tokens, std::min(step_tokens, to - from - i * step_tokens)});
    };
    const int64_t period = boundary_period();
    if (period == 0) {
        add_last(0, prompt);
        return steps;
    }
    for (int64_t i = std::max<int64_t>(0, prompt / period - periods_to_look_at(period)); i * period < prompt; i++)
        add_last(i * period, std::min(prompt, (i + 1) * period));
    return steps;
}

// Lengths of prompts at which a moment can be the worst: a page's worth before the end of each step that counts.
std::vector<int64_t> Moments::prompts_up_to(int64_t longest, int64_t step_tokens) const {
    std::set<int64_t> lengths = {0};
    for (const StepSpan& span : steps_of(longest, step_tokens)) {
        const int64_t end = span.length + span.count;
        for (int64_t length = std::max<int64_t>(0, end - page_tokens); length <= end; length++)
            lengths.insert(length);
    }
    return {lengths.begin(), lengths.end()};
}

void Moments::collect(const PlanRequest& request) {
    const auto step = [&](int64_t length, int64_t count) {
        const auto [at, added] = steps_.try_emplace({length, count});
        if (added) at->second = in_step(length, count, request.partial_commit);
        return std::pair(&at->second, added);
    };
    for (const int64_t prompt : prompts_up_to(request.tokens - 1, request.step_tokens)) {
        const RecordCounts& rest = rests_.emplace_back(at_rest(prompt));
        const int64_t others = request.sequences - 1;
        for (const StepSpan& span : steps_of(prompt, request.step_tokens)) {
            const auto [open, added] = step(span.length, span.count);
            if (added || others > 0) moments_.push_back({open, 1, &rest, others});
        }
        // All sequences share one step's staging; a decode step has none (a page that arrives in it stays in the window).
        moments_.push_back({step(prompt, 1).first, request.sequences, &rest, 0});
    }
}

int64_t Moments::slabs(int64_t slab_bytes) const {
    std::vector<int64_t> per_slab;
    for (const int64_t bytes : sizes_)
        per_slab.push_back(records_per_slab(slab_bytes, bytes));
    int64_t most = 0;
    for (const Moment& moment : moments_) {
        int64_t slabs = 0;
        for (size_t c = 0; c < sizes_.size(); c++) {
            const int64_t n = (*moment.open)[c] * moment.open_times + (*moment.rest)[c] * moment.rest_times;
            if (n > 0) slabs += ceil_div(n, per_slab[c]);
        }
        most = std::max(most, slabs);
    }
    return most;
}

}  // namespace kvc

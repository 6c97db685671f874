#include "core/cache/moments.h"

#include <algorithm>

#include "core/base/size.h"

namespace kvc {
namespace {

// Coded pages of a kv head that have grown old enough for their last rung, or one below it, at a boundary.
int64_t aged_pages(const Layer& layer, const PageState& state, int64_t rung, int64_t boundary) {
    int64_t end = 0;
    for (int64_t r = rung; r < layer.rungs(); r++)
        end = std::max(end, pages_of_age(layer, r, boundary));
    return std::clamp<int64_t>(std::min(end, state.coded_end) - state.first_coded, 0, state.coded_end);
}

// The rung that pages come to by age in the end; 0: they do not age.
int64_t last_aged_rung(const Layer& layer) {
    int64_t last = 0;
    for (size_t i = 0; i < layer.ages.size(); i++) {
        if (layer.ages[i] > 0) last = int64_t(i) + 1;
    }
    return last;
}

std::vector<int64_t> sizes_of(const std::vector<Layer>& layers) {
    std::vector<int64_t> sizes = record_sizes(layers);
    std::erase(sizes, 0);  // of forms that a codec does without
    std::sort(sizes.begin(), sizes.end());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    return sizes;
}

bool same_rule(const PageRule& a, const PageRule& b) {
    return a.sinks == b.sinks && a.window == b.window && a.spare == b.spare && a.sliding_window == b.sliding_window &&
           a.lossless == b.lossless;
}

}  // namespace

Moments::Moments(const std::vector<Layer>& layers, const PolicySpec& policy, std::vector<LayerBudget> budgets)
    : layers_(layers), policy_(policy), budgets_(std::move(budgets)), sizes_(sizes_of(layers)), peaks_(sizes_.size()) {
    for (size_t i = 0; i < layers_.size(); i++) {
        const auto alike = [&](const Kind& kind) { return same_need(kind.layer, i); };
        const auto kind = std::find_if(kinds_.begin(), kinds_.end(), alike);
        if (kind == kinds_.end()) {
            kinds_.push_back({i, 1});
        } else {
            kind->times++;
        }
    }
    run_ends_.resize(page_tokens);
    for (const Kind& kind : kinds_) {
        const PageRule& rule = layers_[kind.layer].rule;
        const int64_t needed = state_at(policy_, layers_[kind.layer], budgets_[kind.layer], 0).needed(rule);
        // A page begins, falls behind the window, and leaves.
        for (const int64_t before : {rule.sinks, rule.sinks + rule.window - 1, rule.sinks + needed - 2})
            run_ends_[size_t((before + page_tokens) % page_tokens)] = true;
    }
    cuts_.every = policy_.has_boundaries() ? policy_.every : 0;
    cuts_.ages = has_ages(layers_) ? age_period : 0;
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
        const int64_t aged_rung = last_aged_rung(layer);  // pages leave for it, and stay there
        const int64_t partial = length > layer.rule.sinks && layer.rule.page_start(layer.rule.pages(length)) != length ? 1 : 0;
        const int64_t pages = layer.rule.lossless && !leaves && aged_rung == 0 ? partial : records.window;
        if (length < layer.rule.sinks) add(counts, format.sink_bytes, heads);
        add(counts, format.window_bytes, heads * pages);
        if (leaves || aged_rung > 0) add_codes(kind, length, records.codes, counts);
        if (!leaves && aged_rung > 0) {
            const PageState state = state_at(policy_, layer, budgets_[kind.layer], length);
            const int64_t stay = aged_pages(layer, state, aged_rung, length - length % age_period);
            counts[class_of(layer.rung(aged_rung).code_bytes)] -= heads * stay;
        }
        if (leaves) add(counts, side_bytes, heads * records.sides);
    }
    return bytes_of(counts);
}

void Moments::add_step(int64_t length, int64_t tokens, Counts counts) {
    // One layer at a time: layers of the same record size share their staging.
    staged_.assign(sizes_.size(), 0);
    for (const Kind& kind : kinds_) {
        const Layer& layer = layers_[kind.layer];
        const LayerBudget& budget = budgets_[kind.layer];
        const int64_t heads = kind.times * layer.kv_heads;
        const PageState state = state_at(policy_, layer, budget, length);
        const StepNeed need = step_need(layer.rule, state, length, tokens, partial_commit_);
        if (length + tokens > budget.tokens) add(counts, side_bytes, heads * sides_in_passing(policy_, layer, budget));
        add(counts, layer.format.sink_bytes, heads * need.sinks);
        add(counts, layer.format.window_bytes, heads * need.window);
        add(counts, layer.format.code_bytes, heads * need.codes);
        int64_t& staged = staged_[class_of(layer.format.window_bytes)];
        staged = std::max(staged, layer.kv_heads * need.staged);
    }
    for (size_t c = 0; c < staged_.size(); c++)
        counts[c] += staged_[c];
    add_aging(length + tokens, counts);
}

std::vector<int64_t> Moments::at_rest(int64_t length) const {
    std::vector<int64_t> counts(sizes_.size());
    add_at_rest(length, counts);
    return counts;
}

std::vector<int64_t> Moments::in_step(int64_t length, int64_t tokens) {
    std::vector<int64_t> counts = at_rest(length);
    add_step(length, tokens, counts);
    return counts;
}

void Moments::note(std::span<const int64_t> open, int64_t open_times, std::span<const int64_t> rest, int64_t rest_times) {
    sum_.resize(sizes_.size());
    for (size_t c = 0; c < sum_.size(); c++)
        sum_[c] = open[c] * open_times + rest[c] * rest_times;
    peaks_.add(sum_);
}

// Last steps of prompts, while the other sequences hold as much. A start is the first of a last step of each length up to its own; of these
// the longest 64 hold the most, and of lengths between which no page range changes the greatest.
void Moments::collect_last_steps(std::span<const StepStart> starts, int64_t others) {
    std::vector<int64_t> longest_at(size_t(cuts_.place_period()));
    for (const StepStart& start : starts) {
        int64_t& longest = longest_at[size_t(start.at % cuts_.place_period())];
        if (start.tokens <= longest) continue;  // a later one goes through the same, and further
        longest = start.tokens;
        const std::vector<int64_t> held = at_rest(start.at);
        for (int64_t n = std::max<int64_t>(1, start.tokens - page_tokens); n <= start.tokens; n++) {
            if (n < start.tokens - 1 && !ends_run(start.at + n)) continue;
            std::vector<int64_t> open = held;
            add_step(start.at, n, open);
            note(open, 1, others > 0 ? at_rest(start.at + n) : held, others);
        }
    }
}

// All sequences share one step's staging; a decode step has none (a page that arrives in it stays in the window).
void Moments::collect_decoding(int64_t longest, int64_t sequences) {
    for (int64_t length = std::max<int64_t>(0, longest - cuts_.place_period()); length <= longest; length++) {
        const std::vector<int64_t> open = in_step(length, 1);
        note(open, sequences, open, 0);
    }
}

// Steps that others of the same prompt follow, which the other sequences have behind them.
void Moments::collect_earlier_steps(std::span<const StepStart> starts, int64_t longest, int64_t others) {
    const int64_t place = cuts_.place_period();
    RecordPeaks rests(sizes_.size()), steps(sizes_.size());
    auto start = starts.begin();
    for (int64_t prompt = longest; prompt > std::max<int64_t>(0, longest - place); prompt--) {
        rests.add(at_rest(prompt));
        for (; start != starts.end() && start->end() == prompt; start++) {
            const std::vector<int64_t> open = in_step(start->at, start->tokens);
            for (size_t i = 0; i < rests.count(); i++)
                note(open, 1, rests[i], others);
        }
    }
    // Those before are followed by prompts of every place. Of the same length, in pages, and place the later one holds more.
    std::vector<int64_t> longest_at(size_t(place * page_tokens));
    for (; start != starts.end(); start++) {
        int64_t& most = longest_at[size_t(start->at % place * page_tokens + start->tokens % page_tokens)];
        if (start->tokens <= most) continue;
        most = start->tokens;
        steps.add(in_step(start->at, start->tokens));
    }
    for (size_t s = 0; s < steps.count(); s++) {
        for (size_t i = 0; i < rests.count(); i++)
            note(steps[s], 1, rests[i], others);
    }
}

void Moments::collect(const PlanRequest& request) {
    cuts_.step_tokens = request.step_tokens;
    partial_commit_ = request.partial_commit;
    const int64_t longest = request.tokens - 1, others = request.sequences - 1;
    const std::vector<StepStart> starts = step_starts(cuts_, longest);
    collect_last_steps(starts, others);
    collect_decoding(longest, request.sequences);
    if (others > 0) collect_earlier_steps(starts, longest, others);
}

int64_t Moments::slabs(int64_t slab_bytes) const {
    std::vector<int64_t> per_slab;
    for (const int64_t bytes : sizes_)
        per_slab.push_back(records_per_slab(slab_bytes, bytes));
    int64_t most = 0;
    for (size_t i = 0; i < peaks_.count(); i++) {
        int64_t slabs = 0;
        for (size_t c = 0; c < sizes_.size(); c++)
            slabs += ceil_div(peaks_[i][c], per_slab[c]);
        most = std::max(most, slabs);
    }
    return most;
}

}  // namespace kvc

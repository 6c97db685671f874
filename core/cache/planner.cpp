#include "core/cache/planner.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/base/size.h"
#include "core/cache/budget.h"

namespace kvc {
namespace {

constexpr int64_t token_limit = int64_t{1} << 40;
constexpr int64_t sequence_limit = int64_t{1} << 24;
// A layer's need repeats after at most 64 steps of equal size, and what is at rest only grows: the last steps hold the peak.
constexpr int64_t steps_to_look_at = 66;

// Records by record size.
using Counts = std::map<int64_t, int64_t>;

void add(Counts& counts, int64_t record_bytes, int64_t n) {
    if (record_bytes > 0 && n > 0) counts[record_bytes] += n;
}

void add(Counts& counts, const Counts& more, int64_t times) {
    for (const auto& [bytes, n] : more)
        add(counts, bytes, n * times);
}

// What is planned for.
struct Shape {
    const std::vector<Layer>& layers;
    const PolicySpec& policy;
    std::vector<LayerBudget> budgets;
};

// Coded pages of a kv head that have grown old enough for their last rung, or one below it, at a boundary.
int64_t aged_pages(const Layer& layer, const PageState& state, int64_t rung, int64_t boundary) {
    int64_t end = 0;
    for (int64_t r = rung; r < layer.rungs(); r++)
        end = std::max(end, pages_of_age(layer, r, boundary));
    return std::clamp<int64_t>(std::min(end, state.coded_end) - state.first_coded, 0, state.coded_end);
}

// Records of coded pages. What a policy that scores tokens leaves where is unknown: all of it counts at the first rung.
void add_codes(const Shape& shape, size_t i, int64_t length, int64_t codes, Counts& counts) {
    const Layer& layer = shape.layers[i];
    const bool scored = shape.policy && !shape.policy.is_closed_rule() && layer.policy_acts;
    const PageState state = state_at(shape.policy, layer, shape.budgets[i], length);
    for (int64_t rung = layer.rungs() - 1; rung > 0 && !scored; rung--) {
        const int64_t below = rung + 1 < layer.rungs() ? aged_pages(layer, state, rung + 1, length - length % age_period) : 0;
        const int64_t here = aged_pages(layer, state, rung, length - length % age_period) - below;
        add(counts, layer.rung(rung).code_bytes, layer.kv_heads * here);
        codes -= here;
    }
    add(counts, layer.format.code_bytes, layer.kv_heads * codes);
}

// New records of pages that step down at the end of a step, while the old ones are still held.
void add_aging(const Shape& shape, int64_t end, Counts& counts) {
    for (size_t i = 0; i < shape.layers.size() && end % age_period == 0; i++) {
        const Layer& layer = shape.layers[i];
        const PageState state = state_at(shape.policy, layer, shape.budgets[i], end);
        for (int64_t rung = 1; rung < layer.rungs(); rung++) {
            const int64_t pages = aged_pages(layer, state, rung, end) - aged_pages(layer, state, rung, end - age_period);
            add(counts, layer.rung(rung).code_bytes, layer.kv_heads * pages);
        }
    }
}

// What one sequence holds between steps.
Counts at_rest(const Shape& shape, int64_t length) {
    Counts counts;
    if (length == 0) return counts;
    for (size_t i = 0; i < shape.layers.size(); i++) {
        const Layer& layer = shape.layers[i];
        const HeadRecords records = records_at(shape.policy, layer, shape.budgets[i], length);
        const LayerFormat& format = layer.format;
        add(counts, format.sink_bytes, layer.kv_heads);
        add(counts, format.window_bytes, layer.kv_heads * records.window);
        add_codes(shape, i, length, records.codes, counts);
        add(counts, side_bytes, layer.kv_heads * records.sides);
    }
    return counts;
}

// What an entry of the prefix index holds alone, once its source has gone on: the window, the sinks if there were more to come, and
// whatever leaves the source's tables later.
Counts of_checkpoint(const Shape& shape, int64_t length) {
    Counts counts;
    for (size_t i = 0; i < shape.layers.size(); i++) {
        const Layer& layer = shape.layers[i];
        const LayerFormat& format = layer.format;
        const HeadRecords records = records_at(shape.policy, layer, shape.budgets[i], length);
        const bool leaves = layer.rule.sliding_window > 0 || shape.budgets[i].tokens > 0;
        const int64_t partial = length > layer.rule.sinks && layer.rule.page_start(layer.rule.pages(length)) != length ? 1 : 0;
        const int64_t pages = layer.rule.lossless ? (leaves ? records.window + records.codes : partial) : records.window;
        if (length < layer.rule.sinks) add(counts, format.sink_bytes, layer.kv_heads);
        add(counts, format.window_bytes, layer.kv_heads * pages);
        if (leaves && !layer.rule.lossless) add(counts, format.code_bytes, layer.kv_heads * records.codes);
        if (leaves) add(counts, side_bytes, layer.kv_heads * records.sides);
    }
    return counts;
}

// What one sequence holds while a step of `count` tokens is open on it.
Counts in_step(const Shape& shape, int64_t length, int64_t count, bool partial_commit) {
    Counts counts = at_rest(shape, length);
    Counts staging;
    for (size_t i = 0; i < shape.layers.size(); i++) {
        const Layer& layer = shape.layers[i];
        const PageState state = state_at(shape.policy, layer, shape.budgets[i], length);
        const StepNeed need = step_need(layer.rule, state, length, count, partial_commit);
        if (length + count > shape.budgets[i].tokens) {
            add(counts, side_bytes, layer.kv_heads * sides_in_passing(shape.policy, layer, shape.budgets[i]));
        }
        add(counts, layer.format.sink_bytes, layer.kv_heads * need.sinks);
        add(counts, layer.format.window_bytes, layer.kv_heads * need.window);
        add(counts, layer.format.code_bytes, layer.kv_heads * need.codes);
        // One layer at a time: layers of the same record size share their staging.
        int64_t& staged = staging[layer.format.window_bytes];
        staged = std::max(staged, layer.kv_heads * need.staged);
    }
    add(counts, staging, 1);
    add_aging(shape, length + count, counts);
    return counts;
}

// The steps of a prompt that can hold the peak, as (length, count).
std::vector<std::pair<int64_t, int64_t>> steps_of(const Shape& shape, int64_t prompt, int64_t tokens) {
    std::vector<std::pair<int64_t, int64_t>> steps;
    // No step crosses a boundary of the policy.
    const int64_t most = shape.policy.has_boundaries() ? std::min(tokens, shape.policy.every) : tokens;
    if (!has_ages(shape.layers)) {
        const int64_t n = ceil_div(prompt, most);
        for (int64_t i = std::max<int64_t>(0, n - steps_to_look_at); i < n; i++)
            steps.emplace_back(i * most, std::min(most, prompt - i * most));
        return steps;
    }
    // Pages of a whole period step down at its end: the last two boundaries are looked at, too.
    const int64_t period = shape.policy.has_boundaries() ? std::gcd(age_period, shape.policy.every) : age_period;
    const int64_t from = std::max<int64_t>(0, prompt / age_period - 2) * age_period;
    for (int64_t length = from; length < prompt;) {
        const int64_t count = std::min({most, prompt - length, period - length % period});
        steps.emplace_back(length, count);
        length += count;
    }
    return steps;
}

// What the request holds at each moment that can need the most slabs: the steps of the last prompt, and the decode step.
std::vector<Counts> moments_of(const Shape& shape, const PlanRequest& request) {
    const int64_t prompt = request.tokens - 1;
    Counts others;
    add(others, at_rest(shape, prompt), request.sequences - 1);
    std::vector<Counts> moments;
    for (const auto& [length, count] : steps_of(shape, prompt, request.step_tokens)) {
        moments.push_back(in_step(shape, length, count, request.partial_commit));
        add(moments.back(), others, 1);
    }
    // All sequences share one step's staging; a decode step has none (a page that arrives in it stays in the window).
    Counts decode;
    add(decode, in_step(shape, prompt, 1, request.partial_commit), request.sequences);
    moments.push_back(std::move(decode));
    return moments;
}

// Slabs that are empty at one moment serve another record size at the next: what counts is the worst moment, not the sum of each
// size's own.
int64_t slabs_for(const std::vector<Counts>& moments, int64_t slab_bytes) {
    int64_t most = 0;
    for (const Counts& counts : moments) {
        int64_t slabs = 0;
        for (const auto& [bytes, n] : counts)
            slabs += ceil_div(n, records_per_slab(slab_bytes, bytes));
        most = std::max(most, slabs);
    }
    return most;
}

// The smallest arena whose own slab size serves every moment; invalid if it is beyond 64 bits. The sizes of arenas that choose a slab
// size lie above those that choose a smaller one, so that the first that serves is the smallest.
Size least_arena(const std::vector<Counts>& moments, int64_t largest) {
    const int64_t most = slab_bytes_for(INT64_MAX, largest);
    Size bytes = 0;
    for (int64_t slab = slab_bytes_min(largest); slab <= most; slab *= 2) {
        bytes = Size(slabs_for(moments, slab)) * slab;
        if (!bytes.valid()) continue;
        bytes = std::max(bytes.value(), arena_bytes_min(slab, largest));
        if (slab_bytes_for(bytes.value(), largest) == slab) return bytes;
    }
    return bytes;
}

// The budgets of a sequence of that length.
Result<Shape> shape_of(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request) {
    const int64_t context = request.context_tokens > 0 ? request.context_tokens : request.tokens;
    Result<std::vector<LayerBudget>> budgets = resolve_budgets(policy, layers, context, 0);
    if (!budgets.ok()) return budgets.status();
    return Shape{layers, policy, std::move(*budgets)};
}

bool fits(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request, int64_t slab_bytes) {
    const Result<Shape> shape = shape_of(layers, policy, request);
    if (!shape.ok()) return true;  // a share of few tokens can be below what must stay, one of more tokens need not be
    return slabs_for(moments_of(*shape, request), slab_bytes) <= request.budget_bytes / slab_bytes;
}

// The largest n in 1 .. limit that fits, 0 if none does; fitting is monotone.
template <class Fits>
int64_t largest_fitting(int64_t limit, const Fits& fits_n) {
    int64_t good = 0, bad = 1;
    while (bad <= limit && fits_n(bad)) {
        good = bad;
        bad *= 2;
    }
    bad = std::min(bad, limit + 1);
    while (bad - good > 1) {
        const int64_t middle = good + (bad - good) / 2;
        (fits_n(middle) ? good : bad) = middle;
    }
    return good;
}

Status check_request(const PlanRequest& request) {
    const auto check = [](const char* what, int64_t value, int64_t low, int64_t high) -> Status {
        if (value >= low && value <= high) return {};
        return fail(Code::argument, "plan: ", what, " ", value, " is out of range (", low, " .. ", high, ")");
    };
    KVC_TRY(check("tokens", request.tokens, 1, token_limit));
    KVC_TRY(check("sequences", request.sequences, 1, sequence_limit));
    KVC_TRY(check("step_tokens", request.step_tokens, 1, token_limit));
    return check("budget_bytes", request.budget_bytes, 0, INT64_MAX);
}

int64_t elements_per_token(const std::vector<Layer>& layers) {
    int64_t elements = 0;
    for (const Layer& layer : layers)
        elements += layer.kv_heads * (layer.format.k_dim + layer.format.v_dim);
    return elements;
}

}  // namespace

double codec_bits(const std::vector<Layer>& layers) {
    double bits = 0;
    for (const Layer& layer : layers) {
        bits += codec_bits(layer.format) * double(layer.kv_heads * (layer.format.k_dim + layer.format.v_dim));
    }
    return bits / double(elements_per_token(layers));
}

Size fp16_bytes(const std::vector<Layer>& layers, int64_t tokens) { return Size(tokens) * Size(elements_per_token(layers)) * Size(2); }

Result<Plan> plan_memory(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request) {
    KVC_TRY(check_request(request));
    const Result<Shape> shape = shape_of(layers, policy, request);
    if (!shape.ok()) return shape.status();
    const int64_t largest = largest_record(layers);
    const int64_t most = arena_bytes_max(slab_bytes_for(INT64_MAX, largest));
    const Status too_large = fail(Code::argument, "plan: ", request.sequences, " sequences of ", request.tokens,
                                  " tokens need more than the ", most, " bytes that an arena can hold");
    const Size fp16 = fp16_bytes(layers, request.tokens) * Size(request.sequences);
    if (!fp16.valid()) return too_large;
    const Size arena = least_arena(moments_of(*shape, request), largest);
    if (!arena.valid() || arena.value() > most) return too_large;
    int64_t records = 0;  // they all lie in that arena
    for (const auto& [bytes, n] : at_rest(*shape, request.tokens))
        records += bytes * n * request.sequences;

    Plan plan;
    for (const auto& [bytes, n] : of_checkpoint(*shape, request.tokens))
        plan.checkpoint_bytes = plan.checkpoint_bytes + (Size(bytes) * n).value();
    plan.fp16_bytes = fp16.value();
    plan.arena_bytes = arena.value();
    plan.record_bytes = records;
    plan.slab_bytes = slab_bytes_for(plan.arena_bytes, largest);
    plan.codec_bits = codec_bits(layers);
    plan.effective_bits = double(plan.record_bytes) * 16 / double(plan.fp16_bytes);
    if (request.budget_bytes > 0) {
        const int64_t slab = slab_bytes_for(request.budget_bytes, largest);
        PlanRequest probe = request;
        probe.budget_bytes = std::min(request.budget_bytes, arena_bytes_max(slab));
        plan.max_tokens = largest_fitting(token_limit, [&](int64_t n) { return probe.tokens = n, fits(layers, policy, probe, slab); });
        probe.tokens = request.tokens;
        plan.max_sequences =
            largest_fitting(sequence_limit, [&](int64_t n) { return probe.sequences = n, fits(layers, policy, probe, slab); });
    }
    return plan;
}

}  // namespace kvc

#include "core/cache/budget.h"

#include <algorithm>

#include "core/base/size.h"
#include "core/cache/repack.h"

namespace kvc {
namespace {

constexpr int64_t mean_limit = int64_t{1} << 40;

// 16-bit tokens behind the sinks that no policy takes: the residual window, which grows page by page.
int64_t window_tokens(const PageRule& rule) { return rule.lossless ? rule.window : rule.window + page_tokens - 1; }

// Coded tokens of a head that holds its budget.
int64_t coded_tokens(const Layer& layer, const LayerBudget& budget) {
    return std::max<int64_t>(0, budget.tokens - layer.rule.sinks - layer.rule.window);
}

// Positions that pass between two evictions.
int64_t period(const PolicySpec& policy) { return policy.is_closed_rule() ? page_tokens : policy.every; }

Size bytes_of(const Layer& layer, const HeadRecords& records) {
    const LayerFormat& format = layer.format;
    const int64_t code_bytes = layer.rule.lossless ? format.window_bytes : format.code_bytes;
    return Size(format.sink_bytes) + Size(records.window) * Size(format.window_bytes) + Size(records.codes) * Size(code_bytes) +
           Size(records.sides) * Size(side_bytes);
}

// While a window fills again that was given up (a sealed prefix) or cut off (below the exact floor): the tokens that it lacks are codes,
// whose pages may be half empty and have positions. `slots`: of 16-bit pages that were there when the policy acted last or came since.
HeadRecords records_refilling(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget, int64_t slots) {
    const PageRule& rule = layer.rule;
    // The fewest tokens of the budget that these slots held when it acted: those of the page that a cut went through may be empty, and in
    // 16 bits pages that were evicted from come back to the window as they are.
    const int64_t held = rule.lossless ? 0 : std::max<int64_t>(0, slots - (page_tokens - 1) - period(policy));
    const int64_t fallen = std::max<int64_t>(0, slots - rule.window) / page_tokens;
    HeadRecords records;
    records.window = ceil_div(slots, page_tokens) - fallen + std::min(rule.spare, fallen);
    records.sides =
        record_bound(layer.format, std::max<int64_t>(0, budget.tokens - rule.sinks - held)) + (policy.heads_compete ? 1 : 0);
    records.codes = records.sides + fallen;
    return records;
}

// Records of one head at most, whatever prefix it began with and wherever it was cut. A page of codes takes no more than one of 16 bits.
Size most_bytes(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget) {
    Size most = bytes_of(layer, records_within(policy, layer, budget));
    if (policy.is_closed_rule()) return most;  // it keeps as many pages, whatever form they have
    const int64_t last = layer.rule.window + page_tokens - 1 + period(policy);
    for (int64_t slots = 1; slots <= last && most.valid(); slots += page_tokens) {  // the fewest that begin so many pages
        const Size bytes = bytes_of(layer, records_refilling(policy, layer, budget, slots));
        if (!bytes.valid() || bytes.value() > most.value()) most = bytes;
    }
    return most;
}

Result<LayerBudget> layer_budget(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t index, int64_t total,
                                 int64_t weights) {
    const Layer& layer = layers[size_t(index)];
    const int64_t weight = policy.weight_of(index, int64_t(layers.size()));
    LayerBudget budget;
    budget.tokens = total / weights * weight + total % weights * weight / weights;  // in two parts, so that nothing overflows
    const int64_t least = layer.rule.sinks + (policy.is_closed_rule() ? 1 : std::max<int64_t>(1, window_tokens(layer.rule)));
    if (budget.tokens < least) {
        return fail(Code::argument, "policy ", policy.name(), ": the budget of layer ", index, " is ", budget.tokens,
                    " tokens, below the ", least, " that sinks and window hold");
    }
    const bool share = policy.recent.unit == BudgetUnit::share;
    const int64_t asked = policy.recent.of(budget.tokens), most = budget.tokens - layer.rule.sinks;
    if (!share && asked > most) {
        return fail(Code::argument, "policy ", policy.name(), ": recent ", asked, " and ", layer.rule.sinks,
                    " sinks are more than the budget of layer ", index, ", ", budget.tokens, " tokens");
    }
    budget.recent = std::min(asked, most);
    return budget;
}

// `mean` tokens per acting layer, spread by their weights.
Result<std::vector<LayerBudget>> spread(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t mean) {
    if (mean > mean_limit)
        return fail(Code::argument, "policy ", policy.name(), ": a budget of ", mean, " tokens is out of range (1 .. 2^40)");
    int64_t weights = 0, acting = 0;
    for (size_t i = 0; i < layers.size(); i++) {
        if (!layers[i].policy_acts) continue;
        weights += policy.weight_of(int64_t(i), int64_t(layers.size()));
        acting++;
    }
    std::vector<LayerBudget> budgets(layers.size());
    for (size_t i = 0; i < layers.size(); i++) {
        if (!layers[i].policy_acts) continue;
        Result<LayerBudget> budget = layer_budget(policy, layers, int64_t(i), mean * acting, weights);
        if (!budget.ok()) return budget.status();
        budgets[i] = *budget;
    }
    return budgets;
}

Size bytes_of(const PolicySpec& policy, const std::vector<Layer>& layers, const std::vector<LayerBudget>& budgets) {
    Size bytes = 0;
    for (size_t i = 0; i < layers.size(); i++) {
        if (layers[i].policy_acts) bytes = bytes + Size(layers[i].kv_heads) * most_bytes(policy, layers[i], budgets[i]);
    }
    return bytes;
}

// The most tokens whose records never take more than `limit` bytes.
Result<std::vector<LayerBudget>> within_bytes(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t limit) {
    const auto fits = [&](int64_t mean) {
        const Result<std::vector<LayerBudget>> budgets = spread(policy, layers, mean);
        if (!budgets.ok()) return true;  // below what must stay; the limit is not the reason
        const Size bytes = bytes_of(policy, layers, *budgets);
        return bytes.valid() && bytes.value() <= limit;
    };
    int64_t good = 0, bad = 1;
    while (bad < mean_limit && fits(bad))
        good = bad, bad *= 2;
    while (bad - good > 1) {
        const int64_t middle = good + (bad - good) / 2;
        (fits(middle) ? good : bad) = middle;
    }
    if (good == 0) return fail(Code::argument, "policy ", policy.name(), ": one token a head takes more than ", limit, " bytes");
    Result<std::vector<LayerBudget>> budgets = spread(policy, layers, good);
    if (budgets.ok()) return budgets;
    return fail(budgets.status().code, budgets.status().message, " (", limit, " bytes)");
}

}  // namespace

Result<std::vector<LayerBudget>> resolve_budgets(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t context,
                                                 int64_t override) {
    if (!policy) return std::vector<LayerBudget>(layers.size());
    Amount amount = policy.budget;
    if (override > 0) amount = {amount.unit == BudgetUnit::bytes ? BudgetUnit::bytes : BudgetUnit::tokens, override};
    if (amount.unit == BudgetUnit::share && context == 0) {
        return fail(Code::argument, "policy ", policy.name(),
                    ": a budget in percent needs context_tokens or the sequence's prompt_length");
    }
    if (amount.unit == BudgetUnit::bytes) return within_bytes(policy, layers, amount.value);
    return spread(policy, layers, amount.of(context));
}

Status check_budgets(const PolicySpec& policy, const std::vector<Layer>& layers, int64_t context_tokens) {
    if (policy.budget.unit == BudgetUnit::share && context_tokens == 0) return {};
    const Result<std::vector<LayerBudget>> budgets = resolve_budgets(policy, layers, context_tokens, 0);
    return budgets.ok() ? Status{} : budgets.status();
}

PageState state_at(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget, int64_t length) {
    PageState state;
    if (policy.is_closed_rule() && layer.policy_acts) state.kept = budget.tokens - layer.rule.sinks;
    return settle(layer.rule, state, length);
}

HeadRecords records_within(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget) {
    // Page ranges repeat after one page: the most over a page's worth of lengths beyond every window.
    const PageRule& rule = layer.rule;
    const int64_t beyond = rule.sinks + rule.window + budget.tokens + rule.sliding_window + 2 * page_tokens * (rule.spare + 1);
    HeadRecords most;
    for (int64_t length = beyond; length < beyond + page_tokens; length++) {
        const PageState state = state_at(policy, layer, budget, length);
        most.window = std::max(most.window, rule.pages(length) - state.first_window);
        most.codes = std::max(most.codes, state.coded_end - state.first_coded);
    }
    if (!policy || policy.is_closed_rule() || !layer.policy_acts) return most;
    most.sides = record_bound(layer.format, coded_tokens(layer, budget)) + (policy.heads_compete ? 1 : 0);
    most.codes = most.sides + ceil_div(period(policy), page_tokens);
    return most;
}

HeadRecords records_at(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget, int64_t length) {
    const PageState state = state_at(policy, layer, budget, length);
    HeadRecords records = {layer.rule.pages(length) - state.first_window, state.coded_end - state.first_coded, 0};
    const bool evicts = policy && !policy.is_closed_rule() && policy.acting != Acting::never && layer.policy_acts;
    if (!evicts || length - length % period(policy) <= budget.tokens) return records;
    const HeadRecords most = records_within(policy, layer, budget);
    records.sides = std::min(records.codes, most.sides);
    records.codes = std::min(records.codes, most.codes);
    return records;
}

int64_t sides_in_passing(const PolicySpec& policy, const Layer& layer, const LayerBudget& budget) {
    if (!policy || policy.policy->traits.by_position || policy.acting == Acting::never || !layer.policy_acts) return 0;
    return ceil_div(coded_tokens(layer, budget), page_tokens) + (policy.heads_compete ? 1 : 0);
}

}  // namespace kvc

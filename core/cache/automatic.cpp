// The policy of a cache: budgets of its sequences, boundaries that steps must not cross, and evictions after commits.
//
// Boundary e uses what the queries below index e left and acts for the queries from e on. It acts right after the commit that reaches e;
// if the arena has no room to repack just then, before the next step, which is refused if it still has none.
#include "core/cache/automatic.h"

#include <algorithm>
#include <cmath>

#include "core/base/half.h"
#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {
namespace {

constexpr int64_t step_tokens_limit = int64_t{1} << 40;
// Beyond this magnitude a query's element counts as this: sums of squares stay far from 2^63.
constexpr double query_limit = 0x1p12;

int64_t fixed_point(double x) { return std::llrint(x / QuerySums::unit); }

// The last window that begins before the step's end, alone.
Observation latest_window(int64_t period, int64_t window, int64_t length, int64_t count) {
    Observation out = {period, window};
    const int64_t end = length + count;
    int64_t begin = (end + period - 1) / period * period - window;
    if (begin >= end) begin -= period;
    out.from = begin < 0 && begin + out.window <= 0 ? end : std::max<int64_t>(begin, 0);
    out.fresh = out.from >= length && out.from < end;
    out.queries = count;
    return out;
}

// The last `window` queries of the step, where a decision may follow any commit. A shorter step adds its own to those before it. In a prompt
// whose end is declared kvc_evict is called there, so its last queries are counted from the start and no others among them. `sums_up`:
// what was counted once stays.
Observation newest_queries(const PolicySpec& policy, int64_t window, bool sums_up, const Sequence& sequence, int64_t count) {
    constexpr int64_t endless = INT64_MAX;
    const int64_t length = sequence.length, end = length + count, in_prompt = sequence.prompt_end - window;
    int64_t from = end - window;
    if (policy.acting == Acting::never && end <= sequence.prompt_end && (sums_up || in_prompt < end)) from = in_prompt;
    from = std::max<int64_t>(from, 0);
    Observation out = {endless, endless, std::clamp(from, length, end)};
    out.fresh = !sums_up && from >= length && from < end;
    out.queries = end - out.from;
    out.limit = sums_up ? 0 : 2 * window;
    return out;
}

// The statistics of fewer queries, distributed alike.
void scale_to(int64_t count, QuerySums& sums) {
    if (sums.count == 0) return;
    for (std::vector<int64_t>* part : {&sums.sum, &sums.square}) {
        for (int64_t& x : *part)
            x = x / sums.count * count + x % sums.count * count / sums.count;
    }
    sums.count = count;
}

// Positions whose statistics expected attention takes.
int64_t query_window(const PolicySpec& policy) { return policy.every; }

bool watches_mass(const PolicySpec& policy) {
    const MassUse use = policy.policy->traits.mass;
    return use == MassUse::latest || (use == MassUse::accumulated && policy.mass == MassMode::observed);
}

}  // namespace

Observation mass_observation(const PolicySpec& policy, const Sequence& sequence, int64_t count) {
    Observation all;
    all.queries = count;
    if (!policy || !watches_mass(policy)) return all;
    const bool sums_up = policy.policy->traits.mass == MassUse::accumulated;
    if (policy.acting != Acting::every) return newest_queries(policy, policy.observe, sums_up, sequence, count);
    if (!sums_up) return latest_window(policy.every, policy.observe, sequence.length, count);
    all.period = policy.every, all.window = policy.observe;
    return all;
}

Observation query_observation(const PolicySpec& policy, const Sequence& sequence, int64_t count) {
    if (!policy || !policy.policy->traits.queries) return {};
    const int64_t window = query_window(policy);
    if (policy.acting != Acting::every) return newest_queries(policy, window, false, sequence, count);
    return latest_window(policy.every, window, sequence.length, count);
}

int64_t counted_queries(const PolicySpec& policy, int64_t begin, int64_t end) {
    if (!watches_mass(policy)) return end - begin;
    const auto before = [&](int64_t index) {
        return index / policy.every * policy.observe + std::max<int64_t>(0, index % policy.every - (policy.every - policy.observe));
    };
    return before(end) - before(begin);
}

Status check_watched(const PolicySpec& policy, const Sequence& sequence, size_t layer) {
    const bool mass = watches_mass(policy), queries = policy.policy->traits.queries;
    if (!mass && !queries) return {};
    const int64_t length = sequence.length, window = mass ? policy.observe : query_window(policy);
    if (policy.acting == Acting::every) {
        if (length % policy.every == 0) return {};
        return fail(Code::unsupported, "evict: policy ", policy.name(), " looks at the last ", window,
                    " queries before multiples of every = ", policy.every, ", so not at ", length, " tokens but next at ",
                    (length / policy.every + 1) * policy.every, "; every=never lets it look at the newest ones anywhere");
    }
    int64_t counted = mass ? sequence.mass_queries : 0;
    if (queries) {
        for (const HeadPages& head : sequence.layers[layer].heads)
            for (const QuerySums& sums : head.queries)
                counted = std::max(counted, sums.count);
    }
    const bool sums_up = policy.policy->traits.mass == MassUse::accumulated;
    const bool in_prompt = policy.acting == Acting::never && length < sequence.prompt_end;
    if (counted >= std::min(window, length) && !(sums_up && in_prompt)) return {};
    const Status status = fail(Code::unsupported, "evict: policy ", policy.name(), " looks at the last ", window, " queries, of which ",
                               counted, " were counted at ", length, " tokens");
    if (!in_prompt) return status;
    return fail(Code::unsupported, status.message, ": they are those before the prompt's end, which is said to be ",
                sequence.first_position + sequence.prompt_end, " (kvc_seq_prompt_set)");
}

Status Cache::apply_budget(Sequence& sequence, int64_t amount) const {
    Result<std::vector<LayerBudget>> budgets = resolve_budgets(policy_, layers_, sequence.context, amount);
    if (!budgets.ok()) return budgets.status();
    for (size_t i = 0; i < layers_.size(); i++) {
        LayerPages& pages = sequence.layers[i];
        pages.budget = (*budgets)[i].tokens;
        pages.recent = (*budgets)[i].recent;
        if (policy_.is_closed_rule() && layers_[i].policy_acts) pages.state.kept = pages.budget - layers_[i].rule.sinks;
    }
    return {};
}

void Cache::drop_pages_below(int64_t first, Sequence& sequence, size_t layer) {
    LayerPages& pages = sequence.layers[layer];
    PageState& state = pages.state;
    const auto drop = [&](std::vector<PageEntry>& table, int64_t count) {
        const auto end = table.begin() + std::clamp<int64_t>(count, 0, int64_t(table.size()));
        std::for_each(table.begin(), end, [&](const PageEntry& entry) { release_entry(entry); });
        table.erase(table.begin(), end);
    };
    for (HeadPages& head : pages.heads) {
        drop(head.coded, first - state.first_coded);
        drop(head.window, first - state.first_window);
    }
    state.first_coded = std::max(state.first_coded, first);
    state.first_window = std::max(state.first_window, first);
    state.coded_end = std::max(state.coded_end, first);
}

Status Cache::set_budget(int64_t id, int64_t amount) {
    if (amount < 0) return fail(Code::argument, "budget_set: budget ", amount, " is negative");
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    if (!policy_) return fail(Code::unsupported, "budget_set: the cache has no policy");
    std::vector<int64_t> first_seen;
    for (size_t i = 0; i < layers_.size(); i++)
        first_seen.push_back((*sequence)->layers[i].state.first_seen_page(layers_[i].rule, (*sequence)->length));
    KVC_TRY(apply_budget(**sequence, amount));
    // What a rule of positions shows to no query under either budget is gone for good.
    for (size_t i = 0; i < layers_.size() && policy_.is_closed_rule(); i++) {
        const LayerPages& pages = (*sequence)->layers[i];
        if (pages.state.kept > 0)
            drop_pages_below(std::max(first_seen[i], pages.state.first_seen_page(layers_[i].rule, (*sequence)->length)), **sequence, i);
    }
    // What was decided under the other budget cannot be undecided by a cut.
    if ((*sequence)->length > 0) (*sequence)->floor = (*sequence)->length;
    return {};
}

int64_t Cache::step_limit_of(const Sequence& sequence) const {
    const int64_t ages = has_ages_ ? age_period - sequence.length % age_period : step_tokens_limit;
    return policy_.has_boundaries() ? std::min(ages, policy_.every - sequence.length % policy_.every) : ages;
}

Result<int64_t> Cache::step_limit(int64_t id) const {
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    return step_limit_of(**sequence);
}

// What a device finds out late is asked first: a number that could not be stored must not decide what leaves.
Status Cache::settle_sound(int64_t id, const Sequence& sequence) const {
    KVC_TRY(settle());
    return sequence.bad_from < sequence.length ? bad_token(id, sequence) : Status{};
}

Status Cache::settle_overdue(int64_t id, Sequence& sequence) {
    if (!sequence.overdue) return {};
    KVC_TRY(settle_sound(id, sequence));
    EvictRequest request;
    request.by_policy = true;
    const Result<EvictReport> report = run_eviction(sequence, request);
    if (!report.ok()) return report.status();
    sequence.overdue = false;
    return {};
}

void Cache::act_after_commit(int64_t id, Sequence& sequence) {
    const bool at_boundary = policy_.has_boundaries() && sequence.length % policy_.every == 0;
    const bool at_commit = policy_ && policy_.acting == Acting::commit;
    const auto over = [&](const LayerPages& pages) { return pages.budget > 0 && sequence.length > pages.budget; };
    if ((at_boundary || at_commit) && std::any_of(sequence.layers.begin(), sequence.layers.end(), over)) sequence.overdue = true;
    try {
        if (settle_overdue(id, sequence).ok()) (void)settle_ages(id, sequence);
    } catch (const std::bad_alloc&) {
        // The sequence stays overdue, or at its boundary: the next begin tries again and says so if it cannot.
    }
}

Status Step::check_policy(const StepSequence& part) const {
    const PolicySpec& policy = cache_.policy_;
    if (policy && options_.partial_commit && policy.policy->needs_attend()) {
        return fail(Code::argument, "step: policy ", policy.name(),
                    " and partial_commit exclude each other (rejected queries would leave traces)");
    }
    const int64_t limit = cache_.step_limit_of(*part.sequence);
    if (part.count <= limit) return {};
    if (!policy.has_boundaries()) {
        return fail(Code::argument, "step: ", part.count, " tokens of sequence ", part.id,
                    " cross a boundary at which pages step down by age, after ", limit, " more tokens (kvc_seq_step_limit)");
    }
    return fail(Code::argument, "step: ", part.count, " tokens of sequence ", part.id, " cross a boundary of policy ", policy.name(),
                ", which acts after ", limit, " more tokens (kvc_seq_step_limit)");
}

void Step::reserve_queries() {
    for (size_t i = 0; i < layers_.size(); i++) {
        const Layer& shape = cache_.layers_[i];
        const size_t dim = size_t(shape.format.k_dim);
        layers_[i].queries.assign(sequences_.size() * size_t(shape.q_heads), {std::vector<int64_t>(dim), std::vector<int64_t>(dim), 0});
        for (const StepSequence& part : sequences_) {
            for (HeadPages& head : part.sequence->layers[i].heads) {
                if (head.queries.empty())
                    head.queries.assign(size_t(shape.group()), {std::vector<int64_t>(dim), std::vector<int64_t>(dim), 0});
            }
        }
    }
}

// Adds the queries of an attend to the step's sums.
void Step::observe_queries(size_t layer, const void* q, const BufferLayout& layout) {
    const Layer& shape = cache_.layers_[layer];
    const int64_t dim = shape.format.k_dim;
    auto job = [&](int64_t i, std::byte*) {
        const StepSequence& part = sequences_[size_t(i / shape.q_heads)];
        QuerySums& sums = layers_[layer].queries[size_t(i)];
        for (int64_t t = 0; t < part.count; t++) {
            if (!part.queried.counts(part.sequence->length + t)) continue;
            const int64_t first = (part.first_row + t) * layout.token_stride + i % shape.q_heads * layout.head_stride;
            for (int64_t d = 0; d < dim; d++) {
                float x;
                if (layout.dtype == Dtype::f32) {
                    x = static_cast<const float*>(q)[first + d];
                } else {
                    const uint16_t bits = static_cast<const uint16_t*>(q)[first + d];
                    x = layout.dtype == Dtype::f16 ? f32_from_f16(bits) : f32_from_bf16(bits);
                }
                const double bounded = x == x ? std::clamp<double>(x, -query_limit, query_limit) : 0;
                sums.sum[size_t(d)] += fixed_point(bounded);
                sums.square[size_t(d)] += fixed_point(bounded * bounded);
            }
            sums.count++;
        }
    };
    cache_.pool_->run(int64_t(sequences_.size()) * shape.q_heads, scratch_, job);
}

void Step::publish_queries(size_t layer, size_t b) {
    const Layer& shape = cache_.layers_[layer];
    LayerPages& pages = sequences_[b].sequence->layers[layer];
    for (int64_t h = 0; h < shape.q_heads; h++) {
        QuerySums& to = pages.heads[size_t(h / shape.group())].queries[size_t(h % shape.group())];
        const QuerySums& added = layers_[layer].queries[b * size_t(shape.q_heads) + size_t(h)];
        const Observation& queried = sequences_[b].queried;
        if (queried.fresh) scale_to(0, to);
        if (queried.fades(to.count)) scale_to(Observation::half(to.count), to);
        for (size_t d = 0; d < to.sum.size(); d++) {
            to.sum[d] += added.sum[d];
            to.square[d] += added.square[d];
        }
        to.count += added.count;
    }
}

}  // namespace kvc

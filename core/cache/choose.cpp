// Which tokens an eviction keeps: a list of positions, or the highest scores within the budget.
#include <algorithm>
#include <cmath>

#include "core/cache/automatic.h"
#include "core/cache/evict.h"

namespace kvc {
namespace {

constexpr double mass_unit = 0x1p-30;
constexpr int64_t default_sinks = 4;

}  // namespace

// Sinks and the residual window always stay. Of a lossless codec nothing but the window's own tokens does, whatever table their page is in:
// a truncate can leave the newest ones in a page that had fallen behind the window.
bool Evictor::may_leave(size_t layer, const Cache::LiveToken& token) const {
    const PageRule& rule = cache_.layers_[layer].rule;
    if (!rule.lossless) return token.form == KernelTable::Form::codes;
    return token.form != KernelTable::Form::sinks && token.index < sequence_.length - rule.window;
}

void Evictor::choose_by_list(size_t layer, std::span<const Tokens> tokens, std::vector<std::vector<bool>>* keep) const {
    for (const Tokens& head : tokens) {
        std::vector<bool>& kept = keep->emplace_back();
        for (const Cache::LiveToken& token : head) {
            const int64_t position = sequence_.first_position + token.index;
            kept.push_back(!may_leave(layer, token) || std::binary_search(request_.keep.begin(), request_.keep.end(), position));
        }
    }
}

const Policy& Evictor::policy() const {
    if (request_.scores) return *find_policy("given");
    return request_.by_policy ? *cache_.policy_.policy : *find_policy("streaming");
}

Status Evictor::choose_by_score(size_t layer, std::span<const Tokens> tokens, const float* given,
                                std::vector<std::vector<bool>>* keep) const {
    // What was put off decides later on what it would have decided on.
    if (request_.by_policy && !request_.scores && !sequence_.overdue) KVC_TRY(check_watched(cache_.policy_, sequence_, layer));
    const LayerPages& pages = sequence_.layers[layer];
    const bool own = request_.by_policy && request_.budget == 0;
    const int64_t budget = own ? pages.budget : request_.budget;
    int64_t recent = request_.recent;
    if (request_.by_policy) recent = std::max(recent, own ? pages.recent : cache_.policy_.recent.of(budget));
    const auto [begin, end] = head_range(layer);
    std::vector<MeasuredHead> measured(tokens.size());
    KVC_TRY(measure(layer, tokens, &measured));
    std::vector<HeadScores> heads;
    for (int64_t h = begin; h < end; h++) {
        const size_t i = size_t(h - begin);
        const float* const row = given ? given + int64_t(i) * sequence_.length : nullptr;
        heads.push_back(score_head(layer, size_t(h), tokens[i], measured[i], recent, row));
        const bool rule_keeps = own && cache_.policy_.is_closed_rule();  // a rule of positions keeps no less than the window
        if (heads.back().fixed() <= budget || rule_keeps) continue;
        return fail(Code::argument, "evict: budget ", budget, " is below the ", heads.back().fixed(),
                    " tokens of sinks, window and recent that stay in layer ", int64_t(layer), ", head ", h);
    }
    if (request_.by_policy && cache_.policy_.heads_compete) {
        std::vector<int64_t> floors;
        for (const HeadScores& head : heads)
            floors.push_back(Amount{BudgetUnit::share, cache_.policy_.head_floor}.of(budget - head.fixed()));
        *keep = keep_competing(heads, budget, floors);
        return {};
    }
    for (const HeadScores& head : heads)
        keep->push_back(keep_within(head, budget));
    return {};
}

// Attention that each token got, in queries.
std::vector<double> Evictor::mass_of(size_t layer, size_t head, const Tokens& tokens) const {
    const std::vector<int64_t>& mass = sequence_.layers[layer].heads[head].mass;
    std::vector<double> out;
    for (const Cache::LiveToken& token : tokens) {
        out.push_back(token.index < int64_t(mass.size()) ? double(mass[size_t(token.index)]) * mass_unit : 0);
    }
    return out;
}

// Nobody asked for a run without sinks where a 16-bit codec, which pins none for itself, meets an eviction without policy and scores.
int64_t Evictor::unasked_sinks(size_t layer) const {
    const PageRule& rule = cache_.layers_[layer].rule;
    const bool asked = request_.scores || request_.by_policy || rule.sinks > 0 || !rule.lossless;
    return asked || cache_.rope_.in_cache ? 0 : default_sinks;
}

HeadScores Evictor::score_head(size_t layer, size_t head, const Tokens& tokens, const MeasuredHead& measured, int64_t recent,
                               const float* given) const {
    const PolicyTraits& traits = policy().traits;
    std::vector<int64_t> positions;
    std::vector<float> rows;
    std::vector<double> mass;
    std::vector<int64_t> seen_by;
    HeadScores out;
    const int64_t sinks = unasked_sinks(layer);
    for (const Cache::LiveToken& token : tokens) {
        positions.push_back(sequence_.first_position + token.index);
        if (given) rows.push_back(given[token.index]);
        out.open.push_back(may_leave(layer, token) && token.index >= sinks && token.index < sequence_.length - recent);
    }
    if (traits.mass != MassUse::none) mass = mass_of(layer, head, tokens);
    if (traits.mass == MassUse::accumulated) {
        for (const Cache::LiveToken& token : tokens)
            seen_by.push_back(counted_queries(cache_.policy_, token.index, sequence_.length));
    }
    out.scores.resize(tokens.size());
    policy().score(
        {positions, rows, mass, seen_by, measured.of_keys, measured.value_norms, cache_.policy_.pooling, cache_.policy_.pool_width},
        out.scores);
    return out;
}

}  // namespace kvc

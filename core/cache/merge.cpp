#include "core/cache/merge.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "core/cache/evict.h"

namespace kvc {

Status check_merging(const MergeRule& rule, const KernelTable& table, const RopeConfig& rope, const Layer& layer, int64_t index) {
    if (rope.in_cache) {
        return fail(Code::unsupported,
                    "merge: in-cache positions allow a gap behind the sinks only, and tokens that join others leave more");
    }
    if (layer.rule.spare > 0) {
        return fail(Code::unsupported, "merge: layer ", index, " keeps ", layer.rule.spare,
                    " spare 16-bit pages (spare_pages), from which a cut would bring tokens back as they were before they were merged");
    }
    if (rule.bias && !table.weighs_counts) {
        return fail(Code::unsupported, "merge: target ", table.name,
                    " has no kernels that add log(count) to logits (merge without the bias)");
    }
    return {};
}

// How this eviction merges in a layer; nullptr: it does not.
const MergeRule* Evictor::merging(size_t layer) const {
    if (request_.by_clusters) return &request_.merge;
    const PolicySpec& policy = cache_.policy_;
    const bool merges = request_.by_policy && policy.merges() && policy.merge.acts_on(int64_t(layer), int64_t(cache_.layers_.size()));
    return merges ? &cache_.policy_.merge : nullptr;
}

Status Evictor::check_clusters() const {
    int64_t needed = 0;
    for (int64_t i = request_.layer_begin; i < request_.layer_end; i++) {
        const auto [begin, end] = head_range(size_t(i));
        needed += (end - begin) * sequence_.length;
        KVC_TRY(check_merging(request_.merge, *cache_.kernels_, cache_.rope_, cache_.layers_[size_t(i)], i));
    }
    if (int64_t(request_.into.size()) == needed) return {};
    return fail(Code::argument, "merge: ", int64_t(request_.into.size()), " entries given, ", needed, " are needed");
}

Status Evictor::choose_by_clusters(size_t layer, std::span<const Tokens> tokens, const int32_t* clusters,
                                   std::vector<std::vector<bool>>* keep, std::vector<std::vector<int64_t>>* into) const {
    const int64_t length = sequence_.length, first = sequence_.first_position;
    for (size_t h = 0; h < tokens.size(); h++) {
        const int32_t* const row = clusters + int64_t(h) * length;
        const auto refuse = [&](const Cache::LiveToken& token, const auto&... why) {
            return fail(Code::argument, "merge: layer ", int64_t(layer), ", head ", head_range(layer).first + int64_t(h),
                        ": the token at position ", first + token.index, why...);
        };
        std::vector<bool>& kept = keep->emplace_back();
        std::vector<int64_t>& joins = into->emplace_back();
        std::vector<int64_t> place(size_t(length), joins_none);  // among the live tokens
        for (const Cache::LiveToken& token : tokens[h]) {
            const int64_t to = row[token.index];
            if (to < joins_none || to >= length)
                return refuse(token, " joins ", to, ", which is out of range (-1 .. ", length - 1, ")");
            if (to != token.index && !may_leave(layer, token))
                return refuse(token, " is a sink or lies in the residual window and stays: its entry must be ", token.index);
            place[size_t(token.index)] = int64_t(kept.size());
            kept.push_back(to == token.index);
        }
        for (const Cache::LiveToken& token : tokens[h]) {
            const int64_t to = row[token.index];
            joins.push_back(to == joins_none ? joins_none : place[size_t(to)]);
            if (to == joins_none) continue;
            if (joins.back() == joins_none) return refuse(token, " joins the one at ", first + to, ", which is not held any more");
            if (!kept[size_t(joins.back())]) return refuse(token, " joins the one at ", first + to, ", which leaves itself");
        }
    }
    return {};
}

// Counts of the tokens that stay.
Status Evictor::plan_counts(HeadEviction* eviction, const Tokens& tokens, const std::vector<bool>& keep) const {
    const std::vector<FoldedToken>& folded = eviction->folded;
    const std::vector<TokenCount>& before = sequence_.layers[eviction->layer].heads[eviction->head].counts;
    if (before.empty() && folded.empty()) return {};
    size_t next = 0;
    for (size_t i = 0; i < tokens.size(); i++) {
        if (!keep[i]) continue;
        const int64_t position = sequence_.first_position + tokens[i].index;
        const TokenCount* const old = find_count(before, position);
        if (next == folded.size() || folded[next].position != position) {
            if (old) eviction->counts.push_back(*old);
            continue;
        }
        const int64_t count = folded[next++].count;
        if (count > std::numeric_limits<int32_t>::max())
            return fail(Code::unsupported, "merge: the token at position ", position, " would stand for ", count,
                        " tokens; the limit is 2^31 - 1");
        const float unbiased = old ? old->log_count : 0;
        eviction->counts.push_back(
            {position, int32_t(count), merging(eviction->layer)->bias ? float(std::log(double(count))) : unbiased});
    }
    return {};
}

// A page whose tokens lie in 16 bits: folded[first] and those after it that share its page.
PageRewrite Evictor::rewrite_rows(const HeadEviction& eviction, std::span<const FoldedToken> folded, size_t first) const {
    const LayerFormat& format = cache_.layers_[eviction.layer].format;
    PageRewrite rewrite = {folded[first].form, folded[first].entry, {}};
    std::vector<std::byte> room;
    const std::byte* const record = cache_.arena_->fetch(record_of(eviction, rewrite), room);
    rewrite.bytes.assign(record, record + cache_.bytes_of_record(record_of(eviction, rewrite)));
    for (size_t i = first; i < folded.size(); i++) {
        const FoldedToken& token = folded[i];
        if (token.form != rewrite.form || token.entry != rewrite.entry) continue;
        const bool sinks = token.form == KernelTable::Form::sinks;
        const StoreParams store = {&format, token.k.data(),       token.v.data(), Dtype::f32, format.k_dim, format.v_dim,
                                   1,       rewrite.bytes.data(), sinks,          token.slot, true};
        cache_.kernels_->store(store);
    }
    return rewrite;
}

// Pages that stay where they are; those that are repacked got their folds with it.
void Evictor::plan_rewrites(HeadEviction* eviction) const {
    const std::vector<FoldedToken>& folded = eviction->folded;
    for (size_t i = 0; i < folded.size(); i++) {
        const FoldedToken& token = folded[i];
        const LayerFormat& format = cache_.format_of(eviction->layer, token.form, record_of(*eviction, {token.form, token.entry, {}}));
        const bool codes = token.form == KernelTable::Form::codes;
        const std::vector<size_t>& moved = eviction->repack.sources;
        if (codes && !format.lossless && format.codec.v.axis != Axis::channel) eviction->requantized++;
        if (codes && std::binary_search(moved.begin(), moved.end(), token.entry)) continue;
        const auto same = [&](const PageRewrite& made) { return made.form == token.form && made.entry == token.entry; };
        if (std::any_of(eviction->rewrites.begin(), eviction->rewrites.end(), same)) continue;
        if (cache_.device_) {
            eviction->rewrites.push_back({token.form, token.entry, {}});
        } else if (!codes || format.lossless) {
            eviction->rewrites.push_back(rewrite_rows(*eviction, folded, i));
        } else {
            eviction->rewrites.push_back({token.form, token.entry, fill_folded(repack_input(*eviction), token.entry)});
        }
        if (!codes || format.lossless) continue;
        const bool all = format.codec.v.axis == Axis::channel || (token.new_key && format.codec.k.axis == Axis::channel);
        if (all) eviction->requantized += std::popcount(eviction->live[token.entry]);
    }
}

RecordId& Evictor::record_of(const HeadEviction& eviction, const PageRewrite& rewrite) const {
    HeadPages& head = sequence_.layers[eviction.layer].heads[eviction.head];
    if (rewrite.form == KernelTable::Form::sinks) return head.sinks;
    return (rewrite.form == KernelTable::Form::codes ? head.coded : head.window)[rewrite.entry].record;
}

// The record itself where it is private, otherwise one for a copy; false: the arena is full.
bool Evictor::acquire_rewrite(const HeadEviction& eviction, PageRewrite* rewrite) {
    Arena& arena = *cache_.arena_;
    const RecordId held = record_of(eviction, *rewrite);
    if (arena.shared(held)) {
        rewrite->record = arena.allocate(arena.class_of_record(held));
    } else {
        arena.retain(held);
        rewrite->record = held;
    }
    return rewrite->record != 0;
}

void Evictor::apply_rewrites(HeadEviction& eviction, EvictReport* report) {
    Arena& arena = *cache_.arena_;
    for (PageRewrite& rewrite : eviction.rewrites) {
        RecordId& held = record_of(eviction, rewrite);
        if (!cache_.device_) arena.put(rewrite.record, rewrite.bytes.data());
        arena.release(held);
        held = std::exchange(rewrite.record, 0);
    }
    sequence_.layers[eviction.layer].heads[eviction.head].counts = std::move(eviction.counts);
    cache_.counters_.tokens_requantized += eviction.requantized;
    report->tokens_merged += eviction.merged;
}

}  // namespace kvc

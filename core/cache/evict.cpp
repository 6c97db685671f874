// Evict: drop whole pages, mask tokens of others, repack when too many records hold too few tokens.
//
// Everything is decided first and new records are filled aside; the tables change at the end, where nothing can fail.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/cache/cache.h"
#include "core/cache/repack.h"
#include "core/policy/policy.h"

namespace kvc {

// What one (layer, kv head) will look like.
struct HeadEviction {
    size_t layer, head;
    std::vector<uint64_t> live;  // per coded entry
    RepackPlan repack;
};

class Evictor {
public:
    Evictor(Cache& cache, Sequence& sequence, const EvictRequest& request) : cache_(cache), sequence_(sequence), request_(request) {}

    Status check();
    Status plan();
    Status acquire();
    void release_acquired();
    EvictReport apply();

private:
    Status plan_head(size_t layer, size_t head);
    Status keep_by_score(size_t layer, size_t head, std::span<const Cache::LiveToken> tokens, int64_t fixed, std::vector<bool>* keep) const;
    void apply_head(HeadEviction& eviction, EvictReport* report);
    void mask_spares(size_t layer, size_t head);
    static void trim_dropped(LayerPages* pages);

    Cache& cache_;
    Sequence& sequence_;
    EvictRequest request_;
    std::vector<HeadEviction> heads_;
    std::vector<uint64_t> spare_masks_;  // of one head at a time; sized before anything changes
};

Status Evictor::check() {
    const int64_t layers = int64_t(cache_.layers_.size());
    if (request_.layer_begin == 0 && request_.layer_end == 0) request_.layer_end = layers;
    if (request_.layer_begin < 0 || request_.layer_begin >= request_.layer_end || request_.layer_end > layers) {
        return fail(Code::argument, "evict: layers ", request_.layer_begin, " .. ", request_.layer_end, " are out of range (layers = ", layers, ")");
    }
    const bool all_heads = request_.head_begin == 0 && request_.head_end == 0;
    int64_t scores = 0;
    for (int64_t i = request_.layer_begin; i < request_.layer_end; i++) {
        const int64_t heads = cache_.layers_[size_t(i)].kv_heads;
        const int64_t end = all_heads ? heads : request_.head_end;
        if (request_.head_begin < 0 || request_.head_begin >= end || end > heads) {
            return fail(Code::argument, "evict: heads ", request_.head_begin, " .. ", end, " are out of range (kv_heads = ", heads, " in layer ", i, ")");
        }
        scores += (end - request_.head_begin) * sequence_.length;
    }
    if (request_.recent < 0) return fail(Code::argument, "evict: recent ", request_.recent, " is negative");
    if (request_.by_keep) {
        if (request_.budget != 0 || request_.recent != 0) return fail(Code::argument, "evict: budget and recent do not go with a list of positions");
        const auto descent = [](int64_t a, int64_t b) { return a >= b; };
        if (std::adjacent_find(request_.keep.begin(), request_.keep.end(), descent) != request_.keep.end()) {
            return fail(Code::argument, "evict: positions to keep are not strictly ascending");
        }
        return {};
    }
    if (request_.budget < 1) return fail(Code::argument, "evict: budget ", request_.budget, " is below 1");
    if (!request_.scores) return {};
    if (request_.n_scores != scores) return fail(Code::argument, "evict: ", request_.n_scores, " scores given, ", scores, " are needed");
    for (int64_t i = 0; i < scores; i++) {
        if (std::isnan(request_.scores[i])) return fail(Code::nonfinite, "evict: score ", i, " is not a number");
    }
    return {};
}

Status Evictor::plan() {
    const float* const all_scores = request_.scores;
    for (int64_t i = request_.layer_begin; i < request_.layer_end; i++) {
        const bool all_heads = request_.head_begin == 0 && request_.head_end == 0;
        const int64_t end = all_heads ? cache_.layers_[size_t(i)].kv_heads : request_.head_end;
        for (int64_t h = request_.head_begin; h < end; h++) {
            KVC_TRY(plan_head(size_t(i), size_t(h)));
            if (all_scores) request_.scores += sequence_.length;  // the next head's row
        }
    }
    request_.scores = all_scores;
    for (const LayerPages& pages : sequence_.layers) {
        const int64_t spares = std::max<int64_t>(0, pages.state.coded_end - pages.state.first_window);
        spare_masks_.resize(std::max(spare_masks_.size(), size_t(spares)));
    }
    return {};
}

Status Evictor::keep_by_score(size_t layer, size_t head, std::span<const Cache::LiveToken> tokens, int64_t fixed,
                              std::vector<bool>* keep) const {
    int64_t recent = 0;  // protected beyond the window
    std::vector<int64_t> positions;
    std::vector<float> given;
    for (const Cache::LiveToken& token : tokens) {
        recent += token.index >= sequence_.length - request_.recent;
        positions.push_back(sequence_.first_position + token.index);
        if (request_.scores) given.push_back(request_.scores[token.index]);
    }
    if (fixed + recent > request_.budget) {
        return fail(Code::argument, "evict: budget ", request_.budget, " is below the ", fixed + recent,
                    " tokens of sinks, window and recent that stay in layer ", int64_t(layer), ", head ", int64_t(head));
    }
    std::vector<float> scores(tokens.size());
    const Policy* policy = find_policy(request_.scores ? "given" : "streaming");
    policy->score({positions, given}, scores);
    const size_t open = tokens.size() - size_t(recent);
    *keep = select(std::span(scores).first(open), request_.budget - fixed - recent);
    keep->resize(tokens.size(), true);
    return {};
}

Status Evictor::plan_head(size_t layer, size_t head) {
    std::vector<Cache::LiveToken> tokens = cache_.live_tokens(sequence_, layer, head);
    const int64_t all = int64_t(tokens.size());
    std::erase_if(tokens, [](const Cache::LiveToken& token) { return token.form != KernelTable::Form::codes; });
    const int64_t fixed = all - int64_t(tokens.size());
    std::vector<bool> keep;
    if (request_.by_keep) {
        for (const Cache::LiveToken& token : tokens) {
            keep.push_back(std::binary_search(request_.keep.begin(), request_.keep.end(), sequence_.first_position + token.index));
        }
    } else {
        KVC_TRY(keep_by_score(layer, head, tokens, fixed, &keep));
    }
    if (cache_.rope_.in_cache && !std::is_sorted(keep.begin(), keep.end())) {
        return fail(Code::unsupported, "evict: layer ", int64_t(layer), ", head ", int64_t(head),
                    " would keep a token before one that it drops; in-cache positions allow a gap behind the sinks only");
    }
    const HeadPages& pages = sequence_.layers[layer].heads[head];
    HeadEviction eviction = {layer, head, std::vector<uint64_t>(pages.coded.size(), 0), {}};
    for (size_t i = 0; i < tokens.size(); i++) {
        if (keep[i]) eviction.live[tokens[i].entry] |= uint64_t{1} << tokens[i].slot;
    }
    const PageRule& rule = cache_.layers_[layer].rule;
    // Pages of a sliding layer leave by age, which a page of gathered tokens has none of; they are never old enough to pile up.
    if (rule.sliding_window == 0) eviction.repack = plan_repack(pages.coded, eviction.live);
    if (!eviction.repack.sources.empty()) {
        const RepackInput input = {*cache_.kernels_, *cache_.arena_, cache_.layers_[layer].format, pages.coded, eviction.live,
                                   sequence_.first_position + rule.page_start(sequence_.layers[layer].state.first_coded)};
        fill_repack(input, &eviction.repack);
    }
    heads_.push_back(std::move(eviction));
    return {};
}

// New records for repacked pages: one of the pages they replace where it is private, otherwise from the arena.
Status Evictor::acquire() {
    Arena& arena = *cache_.arena_;
    for (HeadEviction& eviction : heads_) {
        const std::vector<PageEntry>& coded = sequence_.layers[eviction.layer].heads[eviction.head].coded;
        const int record_class = arena.class_of(cache_.record_bytes_of(eviction.layer, KernelTable::Form::codes));
        size_t next = 0;
        for (RepackedPage& page : eviction.repack.pages) {
            while (next < eviction.repack.sources.size() && !page.record) {
                const RecordId source = coded[eviction.repack.sources[next++]].record;
                if (arena.shared(source)) continue;
                arena.retain(source);
                page.record = source;
            }
            if (!page.record) page.record = arena.allocate(record_class);
            if (page.record) page.side = arena.allocate(cache_.side_class_);
            if (!page.side) {
                return fail(Code::no_memory, "evict: the arena has no room to repack pages of layer ", int64_t(eviction.layer), ", head ",
                            int64_t(eviction.head));
            }
        }
    }
    return {};
}

void Evictor::release_acquired() {
    for (HeadEviction& eviction : heads_) {
        for (RepackedPage& page : eviction.repack.pages) {
            if (page.record) cache_.arena_->release(page.record);
            if (page.side) cache_.arena_->release(page.side);
        }
    }
}

void Evictor::apply_head(HeadEviction& eviction, EvictReport* report) {
    Arena& arena = *cache_.arena_;
    HeadPages& head = sequence_.layers[eviction.layer].heads[eviction.head];
    const int64_t record_bytes = cache_.record_bytes_of(eviction.layer, KernelTable::Form::codes);
    for (size_t e = 0; e < head.coded.size(); e++) {
        PageEntry& entry = head.coded[e];
        if (!entry.record) continue;
        report->tokens_evicted += std::popcount(entry.live & ~eviction.live[e]);
        entry.live = eviction.live[e];
        const bool moved = std::binary_search(eviction.repack.sources.begin(), eviction.repack.sources.end(), e);
        if (entry.live != 0 && !moved) continue;
        if (arena.release(entry.record)) {
            report->records_freed++;
            report->bytes_freed += record_bytes;
        }
        if (entry.side) arena.release(entry.side);
        entry = PageEntry{};
    }
    for (size_t i = 0; i < eviction.repack.pages.size(); i++) {
        const RepackedPage& page = eviction.repack.pages[i];
        std::copy(page.bytes.begin(), page.bytes.end(), arena.data(page.record));
        PageSide* side = reinterpret_cast<PageSide*>(arena.data(page.side));
        for (size_t t = 0; t < page_tokens; t++) side->positions[t] = page.tokens[std::min(t, page.tokens.size() - 1)].position;
        const uint64_t live = page.tokens.size() == page_tokens ? all_live : (uint64_t{1} << page.tokens.size()) - 1;
        head.coded[eviction.repack.sources[i]] = {page.record, page.side, live};
    }
    report->tokens_repacked += eviction.repack.tokens;
    const LayerFormat& format = cache_.layers_[eviction.layer].format;
    const bool requantized = format.codec.k.axis == Axis::channel || format.codec.v.axis == Axis::channel;
    if (!format.lossless && requantized) cache_.counters_.tokens_requantized += eviction.repack.tokens;
}

// Pages that are also kept in 16 bits (spare pages) forget the same tokens, so that a later cut cannot bring them back.
void Evictor::mask_spares(size_t layer, size_t head) {
    const PageRule& rule = cache_.layers_[layer].rule;
    LayerPages& pages = sequence_.layers[layer];
    const int64_t spares = pages.state.coded_end - pages.state.first_window;
    std::vector<PageEntry>& window = pages.heads[head].window;
    std::vector<uint64_t>& kept = spare_masks_;
    std::fill_n(kept.begin(), spares, 0);
    for (size_t e = 0; e < pages.heads[head].coded.size() && spares > 0; e++) {
        const PageEntry& entry = pages.heads[head].coded[e];
        const int64_t start = rule.page_start(pages.state.first_coded + int64_t(e));
        for (int64_t t = 0; t < page_tokens && entry.record; t++) {
            if (!(entry.live >> t & 1)) continue;
            const int64_t index = cache_.token_index(sequence_, entry, start, t);
            const int64_t spare = rule.page_of(index) - pages.state.first_window;
            if (spare >= 0 && spare < spares) kept[size_t(spare)] |= uint64_t{1} << (index - rule.page_start(rule.page_of(index)));
        }
    }
    for (int64_t i = 0; i < spares; i++) window[size_t(i)].live &= kept[size_t(i)];
}

// Tables start at the first page that some head still holds.
void Evictor::trim_dropped(LayerPages* pages) {
    const auto dropped = [&](const HeadPages& head) { return head.coded.empty() || !head.coded.front().record; };
    while (pages->state.first_coded < pages->state.coded_end && std::all_of(pages->heads.begin(), pages->heads.end(), dropped)) {
        int64_t run = pages->state.coded_end - pages->state.first_coded;
        for (const HeadPages& head : pages->heads) {
            const auto held = [](const PageEntry& entry) { return entry.record != 0; };
            run = std::min<int64_t>(run, std::find_if(head.coded.begin(), head.coded.end(), held) - head.coded.begin());
        }
        for (HeadPages& head : pages->heads) head.coded.erase(head.coded.begin(), head.coded.begin() + run);
        pages->state.first_coded += run;
    }
}

EvictReport Evictor::apply() {
    EvictReport report;
    for (HeadEviction& eviction : heads_) {
        apply_head(eviction, &report);
        mask_spares(eviction.layer, eviction.head);
    }
    for (LayerPages& pages : sequence_.layers) trim_dropped(&pages);
    if (report.tokens_evicted > 0) sequence_.floor = sequence_.length;
    cache_.counters_.tokens_evicted += report.tokens_evicted;
    return report;
}

Result<EvictReport> Cache::evict(int64_t id, const EvictRequest& request) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    Evictor evictor(*this, **sequence, request);
    KVC_TRY(evictor.check());
    KVC_TRY(evictor.plan());
    try {
        if (Status status = evictor.acquire(); !status.ok()) {
            evictor.release_acquired();
            return status;
        }
    } catch (...) {
        evictor.release_acquired();
        throw;
    }
    return evictor.apply();
}

}  // namespace kvc

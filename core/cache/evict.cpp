// Evict: drop whole pages, mask tokens of others, repack when too many records hold too few tokens.
#include "core/cache/evict.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace kvc {

Status Evictor::check() {
    const int64_t layers = int64_t(cache_.layers_.size());
    if (request_.layer_begin == 0 && request_.layer_end == 0) request_.layer_end = layers;
    if (request_.layer_begin < 0 || request_.layer_begin >= request_.layer_end || request_.layer_end > layers) {
        return fail(Code::argument, "evict: layer_begin ", request_.layer_begin, " and layer_end ", request_.layer_end,
                    " are no range of layers (layers = ", layers, ")");
    }
    int64_t scores = 0;
    for (int64_t i = request_.layer_begin; i < request_.layer_end; i++) {
        const int64_t heads = cache_.layers_[size_t(i)].kv_heads;
        const auto [begin, end] = head_range(size_t(i));
        if (begin < 0 || begin >= end || end > heads) {
            return fail(Code::argument, "evict: head_begin ", begin, " and head_end ", end,
                        " are no range of heads (kv_heads = ", heads, " in layer ", i, ")");
        }
        scores += (end - begin) * sequence_.length;
    }
    if (request_.by_clusters) return check_clusters();
    if (request_.recent < 0) return fail(Code::argument, "evict: recent ", request_.recent, " is negative");
    if (request_.by_keep) {
        if (request_.budget != 0 || request_.recent != 0)
            return fail(Code::argument, "evict: budget and recent do not go with a list of positions");
        const auto descent = [](int64_t a, int64_t b) { return a >= b; };
        if (std::adjacent_find(request_.keep.begin(), request_.keep.end(), descent) != request_.keep.end()) {
            return fail(Code::argument, "evict: positions to keep are not strictly ascending");
        }
        const int64_t first = sequence_.first_position, last = first + sequence_.length - 1;
        if (!request_.keep.empty() && (request_.keep.front() < first || request_.keep.back() > last)) {
            const int64_t wrong = request_.keep.front() < first ? request_.keep.front() : request_.keep.back();
            return fail(Code::range, "evict: position ", wrong, " to keep is not among the sequence's ", first, " .. ", last);
        }
        return {};
    }
    if (request_.budget < 1 && !(request_.by_policy && request_.budget == 0)) {
        return fail(Code::argument, "evict: budget ", request_.budget, " is below 1");
    }
    if (!request_.scores && request_.by_policy && cache_.policy_.policy->traits.given) {
        return fail(Code::argument, "evict: policy given needs the caller's scores");
    }
    if (!request_.scores) return {};
    if (request_.n_scores != scores)
        return fail(Code::argument, "evict: ", request_.n_scores, " scores given, ", scores, " are needed");
    for (int64_t i = 0; i < scores; i++) {
        if (std::isnan(request_.scores[i])) return fail(Code::nonfinite, "evict: score ", i, " is not a number");
    }
    return {};
}

// The kv heads of a layer that the request names.
std::pair<int64_t, int64_t> Evictor::head_range(size_t layer) const {
    if (request_.head_begin == 0 && request_.head_end == 0) return {0, cache_.layers_[layer].kv_heads};
    return {request_.head_begin, request_.head_end};
}

Status Evictor::plan() {
    const float* given = request_.scores;
    const int32_t* clusters = request_.into.data();
    for (int64_t i = request_.layer_begin; i < request_.layer_end; i++) {
        const auto [begin, end] = head_range(size_t(i));
        KVC_TRY(plan_layer(size_t(i), given, clusters));
        // The next layer's rows.
        if (given) given += (end - begin) * sequence_.length;
        if (clusters) clusters += (end - begin) * sequence_.length;
    }
    for (const LayerPages& pages : sequence_.layers) {
        const int64_t spares = std::max<int64_t>(0, pages.state.coded_end - pages.state.first_window);
        spare_masks_.resize(std::max(spare_masks_.size(), size_t(spares)));
    }
    if (cache_.device_) prepare_rewrites();
    return {};
}

Status Evictor::plan_layer(size_t layer, const float* given, const int32_t* clusters) {
    if (request_.by_policy && request_.budget == 0 && sequence_.layers[layer].budget == 0) return {};
    const auto [begin, end] = head_range(layer);
    std::vector<Tokens> tokens;
    for (int64_t h = begin; h < end; h++)
        tokens.push_back(cache_.live_tokens(sequence_, layer, size_t(h)));
    std::vector<std::vector<bool>> keep;
    std::vector<std::vector<int64_t>> into;
    if (request_.by_clusters) {
        KVC_TRY(choose_by_clusters(layer, tokens, clusters, &keep, &into));
    } else if (request_.by_keep) {
        choose_by_list(layer, tokens, &keep);
    } else {
        KVC_TRY(choose_by_score(layer, tokens, given, &keep));
    }
    into.resize(tokens.size());
    std::vector<std::vector<FoldedToken>> folded;
    if (merging(layer)) {
        if (!request_.by_clusters) KVC_TRY(route(layer, tokens, keep, &into));
        KVC_TRY(fold_layer(layer, tokens, into, &folded));
    }
    folded.resize(tokens.size());
    for (size_t i = 0; i < tokens.size(); i++)
        KVC_TRY(plan_head(layer, size_t(begin) + i, tokens[i], keep[i], into[i], std::move(folded[i])));
    return {};
}

Status Evictor::plan_head(size_t layer, size_t head, const Tokens& tokens, const std::vector<bool>& keep, std::span<const int64_t> into,
                          std::vector<FoldedToken> folded) {
    const PageRule& rule = cache_.layers_[layer].rule;
    const LayerPages& pages = sequence_.layers[layer];
    const HeadPages& tables = pages.heads[head];
    HeadEviction eviction = {layer, head, std::vector<uint64_t>(tables.coded.size(), 0), {}, 0, {}, {}, {}, 0, 0, std::move(folded)};
    if (rule.lossless) {
        for (const PageEntry& entry : tables.window)
            eviction.window.push_back(entry.live);
    }
    eviction.first_seen = pages.state.first_seen_page(rule, sequence_.length);
    // What is held for rollbacks alone goes with the first token that goes: a later cut would bring it back beside a gap.
    if (std::find(keep.begin(), keep.end(), false) == keep.end()) {
        for (int64_t page = pages.state.first_coded; page < std::min(eviction.first_seen, pages.state.coded_end); page++) {
            const size_t e = size_t(page - pages.state.first_coded);
            eviction.live[e] = tables.coded[e].live;
        }
    } else if (rule.lossless) {
        for (int64_t page = pages.state.first_window; page < std::min(eviction.first_seen, rule.pages(sequence_.length)); page++)
            eviction.window[size_t(page - pages.state.first_window)] = 0;
    }
    bool gap_ends = false;  // a token behind the sinks stays
    for (size_t i = 0; i < tokens.size(); i++) {
        const Cache::LiveToken& token = tokens[i];
        if (cache_.rope_.in_cache && !keep[i] && gap_ends) {
            return fail(Code::unsupported, "evict: layer ", int64_t(layer), ", head ", int64_t(head),
                        " would keep a token before one that it drops; in-cache positions allow a gap behind the sinks only");
        }
        if (token.form == KernelTable::Form::sinks) continue;
        gap_ends |= keep[i];
        const uint64_t bit = uint64_t{1} << token.slot;
        if (token.form == KernelTable::Form::codes && keep[i]) eviction.live[token.entry] |= bit;
        if (token.form == KernelTable::Form::window && !keep[i]) eviction.window[token.entry] &= ~bit;
    }
    for (size_t i = 0; i < into.size(); i++)
        eviction.merged += into[i] != joins_none && into[i] != int64_t(i);
    KVC_TRY(plan_counts(&eviction, tokens, keep));
    plan_repacking(&eviction);
    plan_rewrites(&eviction);
    heads_.push_back(std::move(eviction));
    return {};
}

RepackInput Evictor::repack_input(const HeadEviction& eviction) const {
    const LayerPages& pages = sequence_.layers[eviction.layer];
    const Layer& layer = cache_.layers_[eviction.layer];
    return {*cache_.kernels_, *cache_.arena_,
            layer.format,     pages.heads[eviction.head].coded,
            eviction.live,    sequence_.first_position + layer.rule.page_start(pages.state.first_coded),
            eviction.folded,  layer.lower};
}

void Evictor::plan_repacking(HeadEviction* eviction) const {
    const Layer& layer = cache_.layers_[eviction->layer];
    const LayerPages& pages = sequence_.layers[eviction->layer];
    // Where pages leave by age, a page of gathered tokens has none; they are never old enough to pile up.
    if (layer.rule.sliding_window > 0 || pages.state.kept > 0) return;
    eviction->repack = plan_repack(layer.format, pages.heads[eviction->head].coded, eviction->live);
    if (eviction->repack.sources.empty()) return;
    const RepackInput input = repack_input(*eviction);
    choose_tokens(input, &eviction->repack);
    if (!cache_.device_) fill_repack(input, &eviction->repack);  // a device makes its pages itself
}

// Whether the record of a coded page is given up.
bool Evictor::leaves(const HeadEviction& eviction, size_t entry) const {
    const PageEntry& held = sequence_.layers[eviction.layer].heads[eviction.head].coded[entry];
    if (!held.record) return false;
    return eviction.live[entry] == 0 || std::binary_search(eviction.repack.sources.begin(), eviction.repack.sources.end(), entry);
}

int Evictor::repack_class(const HeadEviction& eviction) const {
    return cache_.arena_->class_of(cache_.layers_[eviction.layer].rung(eviction.repack.rung).code_bytes);
}

// Repacked pages get the records of those that they replace, where these are private: their bytes wait in host memory.
void Evictor::reuse_records(bool on_host) {
    Arena& arena = *cache_.arena_;
    for (HeadEviction& eviction : heads_) {
        if (!on_host && recodes(eviction)) {
            reuse_behind_readers(eviction);
            continue;
        }
        const std::vector<PageEntry>& coded = sequence_.layers[eviction.layer].heads[eviction.head].coded;
        const int record_class = repack_class(eviction);
        const auto end = eviction.repack.pages.end();
        auto page = eviction.repack.pages.begin(), side_of = page;
        for (const size_t e : eviction.repack.sources) {
            const RecordId record = coded[e].record, side = coded[e].side;
            if (page != end && !arena.shared(record) && arena.class_of_record(record) == record_class) {
                arena.retain(record);
                (page++)->record = record;
            }
            if (side_of != end && side && !arena.shared(side)) {
                arena.retain(side);
                (side_of++)->side = side;
            }
        }
    }
}

Status Evictor::acquire() {
    Arena& arena = *cache_.arena_;
    reuse_records(false);
    for (HeadEviction& eviction : heads_) {
        const int64_t layer = int64_t(eviction.layer), head = int64_t(eviction.head);
        for (RepackedPage& page : eviction.repack.pages) {
            if (!page.record) page.record = arena.allocate(repack_class(eviction));
            if (page.record && !page.side) page.side = arena.allocate(cache_.side_class_);
            if (page.record && page.side) continue;
            return fail(Code::no_memory, "evict: the arena has no room to repack pages of layer ", layer, ", head ", head);
        }
        for (PageRewrite& rewrite : eviction.rewrites) {
            if (acquire_rewrite(eviction, &rewrite)) continue;
            return fail(Code::no_memory, "merge: the arena has no room for a private copy of a page of layer ", layer, ", head ", head);
        }
    }
    prepare_recodes();
    return {};
}

void Evictor::release_acquired() {
    const auto give_back = [&](RecordId* record) {
        if (*record) cache_.arena_->release(*record);
        *record = 0;
    };
    for (HeadEviction& eviction : heads_) {
        for (RepackedPage& page : eviction.repack.pages) {
            give_back(&page.record);
            give_back(&page.side);
        }
        for (PageRewrite& rewrite : eviction.rewrites)
            give_back(&rewrite.record);
    }
}

// Repacked pages take their entries with the records that they have, so that a compaction finds them.
void Evictor::drop_pages(HeadEviction& eviction, EvictReport* report) {
    Arena& arena = *cache_.arena_;
    HeadPages& head = sequence_.layers[eviction.layer].heads[eviction.head];
    const int64_t first_coded = sequence_.layers[eviction.layer].state.first_coded;
    for (size_t e = 0; e < head.coded.size(); e++) {
        PageEntry& entry = head.coded[e];
        if (!entry.record) continue;
        const bool seen = first_coded + int64_t(e) >= eviction.first_seen;
        if (seen) report->tokens_evicted += std::popcount(entry.live & ~eviction.live[e]);
        entry.live = eviction.live[e];
        if (!leaves(eviction, e)) continue;
        const int64_t record_bytes = cache_.bytes_of_record(entry.record);
        if (arena.release(entry.record)) {
            report->records_freed++;
            report->bytes_freed += record_bytes;
        }
        if (entry.side) arena.release(entry.side);
        entry = PageEntry{};
    }
    for (RepackedPage& page : eviction.repack.pages) {
        const uint64_t live = page.tokens.size() == page_tokens ? all_live : (uint64_t{1} << page.tokens.size()) - 1;
        head.coded[page.entry] = {std::exchange(page.record, 0), std::exchange(page.side, 0), live};
    }
}

void Evictor::fill_pages(HeadEviction& eviction, EvictReport* report) {
    Arena& arena = *cache_.arena_;
    for (const RepackedPage& page : eviction.repack.pages) {
        PageEntry& entry = sequence_.layers[eviction.layer].heads[eviction.head].coded[page.entry];
        if (!entry.record) entry.record = arena.allocate(repack_class(eviction));  // exchange() saw to the room
        if (!entry.side) entry.side = arena.allocate(cache_.side_class_);
        PageSide side;
        for (size_t t = 0; t < page_tokens; t++)
            side.positions[t] = page.tokens[std::min(t, page.tokens.size() - 1)].position;
        if (page.held) {
            arena.put_from(entry.record, page.held);
            arena.put_side(entry.side, side);
        } else if (page.bytes.empty()) {
            arena.note_side(entry.side, side);
        } else {
            arena.put(entry.record, page.bytes.data());
            arena.put_side(entry.side, side);
        }
    }
    report->tokens_repacked += eviction.repack.tokens;
    const LayerFormat& format = cache_.layers_[eviction.layer].rung(eviction.repack.rung);
    const bool requantized = format.codec.k.axis == Axis::channel || format.codec.v.axis == Axis::channel;
    if (!format.lossless && requantized) cache_.counters_.tokens_requantized += eviction.repack.tokens;
}

// Tokens of 16-bit pages that leave: their slots are masked, the record stays until its page is full and all of it is gone.
void Evictor::mask_window(HeadEviction& eviction, EvictReport* report) {
    std::vector<PageEntry>& window = sequence_.layers[eviction.layer].heads[eviction.head].window;
    const int64_t first_window = sequence_.layers[eviction.layer].state.first_window;
    for (size_t e = 0; e < eviction.window.size(); e++) {
        if (first_window + int64_t(e) >= eviction.first_seen)
            report->tokens_evicted += std::popcount(window[e].live & ~eviction.window[e]);
        window[e].live = eviction.window[e];
    }
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
    for (int64_t i = 0; i < spares; i++)
        window[size_t(i)].live &= kept[size_t(i)];
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
        for (HeadPages& head : pages->heads)
            head.coded.erase(head.coded.begin(), head.coded.begin() + run);
        pages->state.first_coded += run;
    }
}

EvictReport Evictor::apply(CompactionRoom* room) {
    EvictReport report;
    if (!recodes_.jobs.empty()) cache_.arena_->recode(recodes_.jobs);
    for (HeadEviction& eviction : heads_)
        drop_pages(eviction, &report);
    if (room) cache_.compact_in(room);
    make_rewrites();
    for (HeadEviction& eviction : heads_) {
        fill_pages(eviction, &report);
        mask_window(eviction, &report);
        mask_spares(eviction.layer, eviction.head);
        apply_rewrites(eviction, &report);
    }
    for (LayerPages& pages : sequence_.layers)
        trim_dropped(&pages);
    if (report.tokens_evicted > 0) sequence_.floor = sequence_.length;
    cache_.counters_.tokens_evicted += report.tokens_evicted;
    cache_.counters_.tokens_merged += report.tokens_merged;
    return report;
}

// Under the exclusive lock. Compaction renames records, so that a second try plans anew.
Result<EvictReport> Cache::run_eviction(Sequence& sequence, const EvictRequest& request) {
    for (int tries = 0;; tries++) {
        Evictor evictor(*this, sequence, request);
        KVC_TRY(evictor.check());
        KVC_TRY(evictor.plan());
        const Status status = evictor.acquire();
        if (status.ok()) return evictor.apply();
        evictor.release_acquired();
        if (tries == 0 && compact()) continue;
        if (const std::optional<EvictReport> report = evictor.exchange()) return *report;
        if (tries > 1) return status;
        if (!make_room(evictor.needs(), nullptr) && !evictor.drop_entries()) return status;
    }
}

Result<EvictReport> Cache::evict(int64_t id, const EvictRequest& request) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(settle());
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    EvictRequest asked = request;
    // Without a policy and without scores the newest tokens stay.
    asked.by_policy = policy_ && !request.by_keep && (!request.scores || request.budget == 0);
    Result<EvictReport> report = run_eviction(**sequence, asked);
    const bool everywhere = request.layer_end == 0 && request.head_end == 0;  // what was put off is due in every layer and head
    if (report.ok() && asked.by_policy && request.budget == 0 && everywhere) (*sequence)->overdue = false;
    return report;
}

Result<EvictReport> Cache::merge(int64_t id, const EvictRequest& request) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(settle());
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    return run_eviction(**sequence, request);
}

}  // namespace kvc

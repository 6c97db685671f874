// What a step works on, sized at begin for the most that a call of it can need, and who runs its kernels.
#include <algorithm>

#include "core/attend/host_executor.h"
#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {
namespace {

// Partial results of one round of an attend, and page sums; a longer step runs in several rounds.
constexpr int64_t state_floats_target = int64_t{4} << 20;
constexpr int64_t page_sums_target = int64_t{2} << 20;

int64_t pages_there(const std::vector<PageEntry>& entries) {
    return std::count_if(entries.begin(), entries.end(), [](const PageEntry& entry) { return entry.record != 0; });
}

}  // namespace

// Of the calls for one layer.
Step::ScratchNeeds Step::layer_needs(size_t i) const {
    const Layer& layer = cache_.layers_[i];
    const bool apart = cache_.rope_.in_cache && !cache_.rope_.keys_before;
    ScratchNeeds needs;
    for (size_t b = 0; b < sequences_.size(); b++) {
        const StepSequence& part = sequences_[b];
        const int64_t end = part.sequence->length + part.count;
        const std::vector<HeadPages>& heads = part.sequence->layers[i].heads;
        // Lossless pages come to the table of codes while they are appended.
        const int64_t coded = layer.rule.lossless ? layer.rule.pages(end) : int64_t(heads[0].coded.size());
        if (layer.rungs() > 1) needs.rung_entries += layer.kv_heads * layer.rungs() * coded;
        if (!layer.rule.lossless) needs.codes += layers_[i].needs[b].codes * layer.kv_heads;
        if (part.count == 0) continue;
        const bool prompt_only = !options_.strict && end <= part.sequence->prompt_end;
        QueryTile tile;
        tile.count = std::min<int64_t>(part.count, page_tokens);
        const int64_t first_page = part.sequence->layers[i].state.first_kept_page(layer.rule, part.sequence->length);
        const SplitRule split = {apart, layer.rungs()};
        tile.splits = split_count(first_page, layer.rule.pages(end), prompt_only, split);
        const int64_t floats = tile.state_floats(layer.q_heads, layer.format.v_dim);
        const int64_t tiles = tiles_bound(part);
        if (by_pages_) {
            tile.runs = run_count(first_page, layer.rule.pages(end), tile.splits, split);
            // Tiles that count end where observation windows do.
            const bool apart_windows = part.observation.window < part.observation.period;
            const int64_t rows = apart_windows ? std::min(tile.count, part.observation.window) : tile.count;
            needs.tile_sums = std::max(needs.tile_sums, tile.page_sums(layer.q_heads) / tile.count * rows);
            needs.sums += ceil_div(part.count, tile.count) * tile.page_sums(layer.q_heads);
        }
        needs.groups += layer.kv_heads;
        needs.tile_states = std::max(needs.tile_states, floats);
        needs.states += ceil_div(part.count, tile.count) * floats;
        needs.tiles += tiles;
        needs.items += tiles * layer.kv_heads * tile.splits;
        needs.entries += tiles * layer.kv_heads * layer.rungs() * layer.rule.pages(end);
        for (const HeadPages& head : heads)
            needs.counts += tiles * tile.splits * int64_t(head.counts.size());
        if (options_.accumulate) {
            const int64_t new_pages = layer.rule.pages(end) - layer.rule.pages(part.sequence->length);
            for (const HeadPages& head : heads)
                needs.kept_entries += tiles * (pages_there(head.coded) + pages_there(head.window) + new_pages);
        }
        // A run of a new token's record, one of each page that the others fill, and one of sinks.
        needs.stores += layer.kv_heads * (ceil_div(part.count, page_tokens) + 2);
    }
    needs.lse = tokens_ * layer.q_heads;
    if (apart) needs.turned = tokens_ * layer.q_heads * layer.format.k_dim;
    return needs;
}

void Step::ScratchNeeds::cover(const ScratchNeeds& other) {
    for (const auto need :
         {&ScratchNeeds::tiles, &ScratchNeeds::items, &ScratchNeeds::states, &ScratchNeeds::tile_states, &ScratchNeeds::lse,
          &ScratchNeeds::turned, &ScratchNeeds::rung_entries, &ScratchNeeds::stores, &ScratchNeeds::codes, &ScratchNeeds::groups,
          &ScratchNeeds::entries, &ScratchNeeds::counts, &ScratchNeeds::kept_entries, &ScratchNeeds::sums, &ScratchNeeds::tile_sums})
        this->*need = std::max(this->*need, other.*need);
}

// What a device asks of all layers.
void Step::ScratchNeeds::add(const ScratchNeeds& other) {
    for (const auto need : {&ScratchNeeds::tiles, &ScratchNeeds::items, &ScratchNeeds::states, &ScratchNeeds::stores,
                            &ScratchNeeds::codes, &ScratchNeeds::entries, &ScratchNeeds::counts, &ScratchNeeds::sums})
        this->*need += other.*need;
}

Status Step::reserve_scratch() {
    ScratchNeeds needs, whole;
    for (size_t i = 0; i < layers_.size(); i++) {
        const ScratchNeeds of_layer = layer_needs(i);
        needs.cover(of_layer);
        whole.add(of_layer);
    }
    append_.stores.reserve(size_t(needs.stores));
    append_.codes.reserve(size_t(needs.codes));
    append_.groups.reserve(size_t(needs.groups));
    attend_.tiles.reserve(size_t(needs.tiles));
    attend_.finish.reserve(size_t(needs.tiles));
    attend_.items.reserve(size_t(needs.items));
    attend_.params.reserve(size_t(needs.items));
    attend_.item_entry.reserve(size_t(needs.items));
    if (options_.accumulate) {
        attend_.mass_items.reserve(size_t(needs.items));
        attend_.mass_params.reserve(size_t(needs.items));
    }
    attend_.rung_tables.resize(size_t(needs.rung_entries));
    const auto has_rungs = [](const Layer& layer) { return layer.rungs() > 1; };
    if (std::any_of(cache_.layers_.begin(), cache_.layers_.end(), has_rungs)) attend_.rung_offset.resize(sequences_.size());
    attend_.turned_q.resize(size_t(needs.turned));
    // A graph has launches for one round.
    state_floats_ = options_.graph ? needs.states : std::max(needs.tile_states, std::min(needs.states, state_floats_target));
    sum_room_ = std::max(needs.tile_sums, std::min(needs.sums, page_sums_target));
    KVC_TRY(open_executor(needs, whole));
    scratch_bytes_ = attend_.bytes() + cache_.thread_scratch_bytes_ + table_bytes();
    cache_.step_scratch_bytes_ += scratch_bytes_;
    return {};
}

Status Step::open_executor(const ScratchNeeds& needs, const ScratchNeeds& whole) {
    if (cache_.device_) return open_device(needs, whole);
    attend_.states.resize(size_t(state_floats_));
    if (options_.accumulate) attend_.lse.resize(size_t(needs.lse));
    states_ = attend_.states.data();
    lse_ = attend_.lse.data();
    if (by_pages_) attend_.page_sums.resize(size_t(sum_room_));
    page_sums_ = by_pages_ ? attend_.page_sums.data() : nullptr;
    scratch_block_.reset(new std::byte[size_t(cache_.thread_scratch_bytes_) + 64]);
    const uintptr_t address = reinterpret_cast<uintptr_t>(scratch_block_.get());
    scratch_ = scratch_block_.get() + (64 - address % 64) % 64;
    executor_ = &host_executor_.emplace(*cache_.kernels_, *cache_.pool_, scratch_);
    return {};
}

}  // namespace kvc

#include "core/attend/plan.h"

#include <algorithm>

#include "core/attend/positions.h"
#include "core/base/capacity.h"

namespace kvc {
namespace {

// A repacked page holds tokens newer than its place says, so a sliding window does not skip it by place.
bool any_repacked(const std::vector<PageEntry>& coded) {
    return std::any_of(coded.begin(), coded.end(), [](const PageEntry& entry) { return entry.side != 0; });
}

// The pages [first, end) of a table that starts at page `table_first`.
struct Run {
    const PageEntry* entries;
    int64_t count;
    int64_t first_page;
};

Run run_of(const PageEntry* table, int64_t table_first, int64_t first, int64_t end) {
    first = std::max(first, table_first);
    if (end <= first) return {nullptr, 0, first};
    return {table + (first - table_first), end - first, first};
}

}  // namespace

int64_t split_count(int64_t first_page, int64_t pages, bool prompt_class, const SplitRule& split) {
    const int64_t ranges = prompt_class ? 1 : std::max<int64_t>(1, ceil_div(pages, split_pages) - first_page / split_pages);
    return ranges * split.rungs + (split.apart ? 1 : 0);
}

int64_t AttendScratch::bytes() const {
    return capacity_bytes(tiles) + capacity_bytes(items) + capacity_bytes(params) + capacity_bytes(item_entry) +
           capacity_bytes(finish) + capacity_bytes(mass_items) + capacity_bytes(mass_params) + capacity_bytes(rung_tables) +
           capacity_bytes(rung_offset) + capacity_bytes(turned_q) + capacity_bytes(states) + capacity_bytes(lse) +
           capacity_bytes(page_sums);
}

// A tile ends after 64 positions, where the form of a page or the first page changes (each once in 64 positions), where the class
// changes, and where an observation window begins or ends.
int64_t tiles_bound(const StepSequence& part) {
    const int64_t observed = part.observation.period == 0 ? 0 : 2 * (part.count / part.observation.period + 1);
    return std::min(part.count, 3 * ceil_div(part.count, page_tokens) + 3 + observed);
}

void plan_tiles(std::span<const StepSequence> sequences, const PageRule& rule, size_t layer, bool strict, const SplitRule& split,
                std::vector<QueryTile>& out) {
    out.clear();
    for (size_t b = 0; b < sequences.size(); b++) {
        const StepSequence& part = sequences[b];
        const Sequence& sequence = *part.sequence;
        const PageState& state = sequence.layers[layer].state;
        const int64_t coded_end = state.coded_end;
        const auto boundary_at = [&](int64_t index) { return std::max(rule.first_fp16_page(index + 1), coded_end); };
        const auto prompt_at = [&](int64_t index) { return !strict && index < sequence.prompt_end; };
        const int64_t end = sequence.length + part.count;
        for (int64_t first = sequence.length; first < end;) {
            QueryTile tile;
            tile.b = int64_t(b);
            tile.first = first;
            tile.boundary = boundary_at(first);
            tile.prompt_class = prompt_at(first);
            tile.first_kept = state.first_kept_page(rule, first);
            tile.first_split = tile.prompt_class ? 0 : tile.first_kept / split_pages;
            tile.observed = part.observation.counts(first);
            int64_t last = first;
            while (last + 1 < end && last + 1 - first < page_tokens && boundary_at(last + 1) == tile.boundary &&
                   prompt_at(last + 1) == tile.prompt_class && state.first_kept_page(rule, last + 1) == tile.first_kept &&
                   part.observation.counts(last + 1) == tile.observed) {
                last++;
            }
            tile.count = last + 1 - first;
            tile.splits = split_count(tile.first_kept, rule.pages(last + 1), tile.prompt_class, split);
            tile.runs = run_count(tile.first_kept, rule.pages(last + 1), tile.splits, split);
            out.push_back(tile);
            first = last + 1;
        }
    }
}

namespace {

// What all items of a tile have in common, and the range of pages that any of its rows can see.
struct TilePages {
    AttendItem item;
    int64_t first_page, end_page;
};

TilePages tile_pages(const QueryTile& tile, const StepSequence& part, const LayerQuery& query) {
    const PageRule& rule = *query.rule;
    const Sequence& sequence = *part.sequence;
    AttendItem item = {};
    item.tokens = tile.count;
    item.first_position = sequence.first_position + tile.first;
    item.prompt_class = tile.prompt_class;
    item.sink_tokens = std::min(rule.sinks, tile.first + tile.count);
    item.sinks_position = sequence.first_position;
    item.state_token_stride = query.kv_heads * query.group;
    int64_t first_seen = 0;
    if (query.sliding_window < tile.first + 1) {
        first_seen = std::max<int64_t>(0, tile.first + 1 - query.sliding_window - rule.sinks) / page_tokens;
    }
    return {item, std::max(first_seen, tile.first_kept), rule.pages(tile.first + tile.count)};
}

// The coded pages of one rung.
const PageEntry* coded_table(const HeadPages& head, int64_t b, int64_t head_index, int64_t rung, int64_t rungs,
                             const AttendScratch& scratch) {
    if (rungs == 1) return head.coded.data();
    return scratch.rung_tables.data() + scratch.rung_offset[size_t(b)] + (head_index * rungs + rung) * int64_t(head.coded.size());
}

}  // namespace

void plan_items(const QueryTile& tile, const StepSequence& part, const LayerPages& pages, const LayerQuery& query,
                const RoundBuffers& buffers, AttendScratch& scratch) {
    const PageRule& rule = *query.rule;
    const Sequence& sequence = *part.sequence;
    const TilePages common = tile_pages(tile, part, query);
    const int64_t q_heads = query.kv_heads * query.group;
    const int64_t row = part.first_row + (tile.first - sequence.length);
    const int64_t sinks_split = query.turn_sinks ? tile.splits - 1 : 0;
    PageSum* page_sums = buffers.page_sums && tile.observed ? buffers.page_sums + tile.sums_offset : nullptr;
    for (int64_t head = 0; head < query.kv_heads; head++) {
        const HeadPages& head_pages = pages.heads[size_t(head)];
        for (int64_t split = 0; split < tile.splits; split++) {
            AttendItem item = common.item;
            const bool turned = query.turn_sinks && split == sinks_split;
            item.counts = head_pages.counts.data();
            item.n_counts = int64_t(head_pages.counts.size());
            const int64_t range = split / query.rungs, rung = turned ? 0 : split % query.rungs;
            item.q = query.q + row * query.q_token_bytes + head * query.group * query.q_head_bytes;
            if (turned) item.q = query.turned_q + (row * q_heads + head * query.group) * query.k_dim;
            item.sinks = split == sinks_split ? head_pages.sinks : 0;
            item.rope_gap = query.subtract_gap ? gap_behind_sinks(pages, size_t(head), rule, sequence.length, tile.first_kept) : 0;
            const int64_t split_low = tile.prompt_class ? 0 : (tile.first_split + range) * split_pages;
            const int64_t low = std::max(common.first_page, split_low);
            const int64_t high = turned ? 0 : tile.prompt_class ? common.end_page : std::min(common.end_page, split_low + split_pages);
            const int64_t coded_low =
                common.first_page > 0 && any_repacked(head_pages.coded) ? std::max(split_low, tile.first_kept) : low;
            const PageEntry* const table = coded_table(head_pages, tile.b, head, rung, query.rungs, scratch);
            const Run coded = run_of(table, pages.state.first_coded, coded_low, std::min(high, tile.boundary));
            const Run window =
                run_of(head_pages.window.data(), pages.state.first_window, std::max(low, tile.boundary), rung == 0 ? high : 0);
            item.coded = coded.entries;
            item.n_coded = coded.count;
            item.coded_position = sequence.first_position + rule.page_start(coded.first_page);
            item.window = window.entries;
            item.n_window = window.count;
            item.window_position = sequence.first_position + rule.page_start(window.first_page);
            item.state = buffers.states + tile.state_offset + (split * tile.count * q_heads + head * query.group) * (query.v_dim + 2);
            item.page_sums = page_sums;
            if (page_sums) page_sums += item.runs() * tile.count * query.group;
            scratch.items.push_back(item);
            scratch.params.push_back(turned ? query.turned_params : query.params + rung);
            scratch.item_entry.push_back(coded.entries ? coded.entries - table : 0);
        }
    }
}

}  // namespace kvc

// Room for what an eviction makes anew, where the arena is full: what leaves goes first, or prefix entries do.
#include "core/cache/evict.h"
#include "core/store/arena_forecast.h"

namespace kvc {

std::vector<int64_t> Evictor::needs() const {
    Arena& arena = *cache_.arena_;
    std::vector<int64_t> needs(arena.class_count());
    for (const HeadEviction& eviction : heads_) {
        const std::vector<PageEntry>& coded = sequence_.layers[eviction.layer].heads[eviction.head].coded;
        int64_t records = int64_t(eviction.repack.pages.size()), sides = records;
        for (size_t e : eviction.repack.sources) {
            if (!arena.shared(coded[e].record) && arena.class_of_record(coded[e].record) == repack_class(eviction)) records--;
            if (coded[e].side && !arena.shared(coded[e].side)) sides--;
        }
        needs[size_t(repack_class(eviction))] += std::max<int64_t>(0, records);
        needs[size_t(cache_.side_class_)] += std::max<int64_t>(0, sides);
        for (const PageRewrite& rewrite : eviction.rewrites) {
            const RecordId held = record_of(eviction, rewrite);
            if (arena.shared(held)) needs[size_t(arena.class_of_record(held))]++;
        }
    }
    return needs;
}

ArenaForecast Evictor::without_old() const {
    ArenaForecast forecast(*cache_.arena_, cache_.open_steps_ == 0);
    for (const HeadEviction& eviction : heads_) {
        const std::vector<PageEntry>& coded = sequence_.layers[eviction.layer].heads[eviction.head].coded;
        for (size_t e = 0; e < coded.size(); e++) {
            if (!leaves(eviction, e)) continue;
            forecast.release(coded[e].record);
            if (coded[e].side) forecast.release(coded[e].side);
        }
    }
    return forecast;
}

// What the host may refuse comes first.
std::optional<EvictReport> Evictor::exchange() {
    Arena& arena = *cache_.arena_;
    const bool compacting = cache_.open_steps_ == 0;
    const std::vector<int64_t> needed = needs();
    reuse_records(true);
    if (!without_old().fits(needed)) {
        release_acquired();
        return {};
    }
    if (!hold_recodes()) fill_on_host();
    for (size_t c = 0; c < needed.size(); c++) {
        if (needed[c] > 0) arena.prepare_binding(int(c));
    }
    if (!compacting) return apply(nullptr);
    CompactionRoom room = arena.prepare_compaction();
    return apply(&room);
}

bool Evictor::drop_entries() {
    const std::vector<int64_t> needed = needs();
    reuse_records(true);
    const bool dropped = cache_.drop_entries(without_old(), needed, nullptr);
    release_acquired();
    return dropped;
}

}  // namespace kvc

// Compaction: before memory is refused, records move together so that half-empty slabs become free for other record sizes.
#include "core/cache/cache.h"

namespace kvc {

bool Cache::compact() {
    if (open_steps_ > 0) return false;
    const int64_t bound = arena_->bound_bytes();
    CompactionRoom room = arena_->prepare_compaction();
    compact_in(&room);
    return arena_->bound_bytes() < bound;
}

void Cache::compact_in(CompactionRoom* room) {
    arena_->compact(room);
    const auto rename = [&](RecordId* id) { *id = room->renamed(*id); };
    const auto rename_all = [&](Sequence& sequence) {
        for (LayerPages& pages : sequence.layers) {
            for (HeadPages& head : pages.heads) {
                rename(&head.sinks);
                for (std::vector<PageEntry>* table : {&head.coded, &head.window}) {
                    for (PageEntry& entry : *table) {
                        rename(&entry.record);
                        rename(&entry.side);
                    }
                }
            }
        }
    };
    for (SequenceSlot& slot : slots_) {
        if (slot.sequence) rename_all(*slot.sequence);
    }
    for (PrefixEntry& entry : prefixes_.entries()) {
        if (entry.sequence) rename_all(*entry.sequence);
    }
    // Old and new names have nothing in common: they lie in slabs that were emptied and in others. Moving a node allocates nothing.
    for (const auto& [from, to] : room->moved) {
        auto counted = prefix_records_.extract(from);
        if (counted.empty()) continue;
        counted.key() = to;
        prefix_records_.insert(std::move(counted));
    }
}

}  // namespace kvc

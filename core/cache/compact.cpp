// Compaction: before memory is refused, records move together so that half-empty slabs become free for other record sizes.
#include "core/cache/cache.h"

namespace kvc {

bool Cache::compact() {
    if (open_steps_ > 0) return false;
    const int64_t bound = arena_->bound_bytes();
    const std::unordered_map<RecordId, RecordId> moved = arena_->compact();
    const auto rename = [&](RecordId* id) {
        const auto found = moved.find(*id);
        if (found != moved.end()) *id = found->second;
    };
    for (SequenceSlot& slot : slots_) {
        if (!slot.sequence) continue;
        for (LayerPages& pages : slot.sequence->layers) {
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
    }
    return arena_->bound_bytes() < bound;
}

}  // namespace kvc

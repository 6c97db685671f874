#include "core/store/arena_forecast.h"

#include <algorithm>

#include "core/base/size.h"

namespace kvc {

ArenaForecast::ArenaForecast(const Arena& arena, bool compacting)
    : arena_(arena),
      compacting_(compacting),
      in_use_(arena.classes_.size()),
      free_(arena.classes_.size()),
      unbound_(int64_t(arena.unbound_.size())) {
    for (size_t c = 0; c < in_use_.size(); c++)
        in_use_[c] = arena.classes_[c].in_use;
    for (const Arena::Slab& slab : arena.slabs_) {
        if (slab.size_class >= 0) free_[size_t(slab.size_class)] += int64_t(slab.free.size());
    }
}

void ArenaForecast::release(RecordId id) {
    const uint32_t slab_id = Arena::slab_of(id);
    const Arena::Slab& slab = arena_.slabs_[slab_id];
    if (++released_[id] < slab.owners[Arena::index_of(id)]) return;
    const size_t c = size_t(slab.size_class);
    const int64_t per_slab = arena_.classes_[c].per_slab;
    in_use_[c]--;
    free_[c]++;
    if (++emptied_[slab_id] + int64_t(slab.free.size()) < per_slab) return;
    free_[c] -= per_slab;  // the slab goes back and serves any class
    unbound_++;
}

bool ArenaForecast::fits(std::span<const int64_t> needs) const {
    int64_t slabs = 0;
    for (size_t c = 0; c < needs.size(); c++) {
        const int64_t per_slab = arena_.classes_[c].per_slab;
        slabs +=
            compacting_ ? ceil_div(in_use_[c] + needs[c], per_slab) : ceil_div(std::max<int64_t>(0, needs[c] - free_[c]), per_slab);
    }
    return slabs <= (compacting_ ? arena_.slab_count_ : unbound_);
}

}  // namespace kvc

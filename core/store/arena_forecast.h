// What an arena could allocate once some of its records were released: asked before anything is given up for it.
#pragma once
#include <span>
#include <unordered_map>
#include <vector>

#include "core/store/arena.h"

namespace kvc {

class ArenaForecast {
public:
    // `compacting`: records will move together before the arena is asked again.
    ArenaForecast(const Arena& arena, bool compacting);

    // Supposes that one ownership of the record is given up.
    void release(RecordId id);
    // Whether so many more records of each size class would then have room, without slabs from the host.
    bool fits(std::span<const int64_t> needs) const;

private:
    const Arena& arena_;
    bool compacting_;
    std::unordered_map<RecordId, uint32_t> released_;  // ownerships given up
    std::unordered_map<uint32_t, int64_t> emptied_;    // records of a slab that would be free on top of those that are
    std::vector<int64_t> in_use_, free_;               // per class; free: in bound slabs
    int64_t unbound_ = 0;
};

}  // namespace kvc

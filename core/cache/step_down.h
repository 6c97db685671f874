// One step-down of a sequence: coded pages take a lower rung of their layer's ladder. Everything is decided first and new records are
// filled aside; the table changes at the end, where nothing can fail.
#pragma once
#include <span>
#include <vector>

#include "core/cache/cache.h"
#include "core/store/arena_forecast.h"
#include "core/store/device_blocks.h"

namespace kvc {

class StepDown {
public:
    StepDown(Cache& cache, Sequence& sequence) : cache_(cache), sequence_(sequence), blocks_(cache.device_.get()) {}

    // What a caller asks for.
    Status plan(const StepDownRequest& request);
    // What the ages of the ladders ask for at that length.
    void plan_ages(int64_t boundary);

    // New records with the pages' new codes; false if the arena is full.
    bool acquire();
    void release_acquired();
    // What acquire() takes, by size class.
    std::vector<int64_t> needs() const;
    // The same without room for both: old records are released first, new codes wait in the host's memory or the device's. False, and nothing is changed, if
    // even so the new ones would not fit.
    bool swap_in_place();
    // The arena once the old records are released.
    ArenaForecast without_old() const;
    StepDownReport apply();
    ~StepDown();
    StepDown(const StepDown&) = delete;
    StepDown& operator=(const StepDown&) = delete;

private:
    struct Change {
        size_t layer, head, entry;
        int64_t rung;
        double value;  // of the page, if one is to be chosen: attention mass of its mean token
        RecordId record = 0;
        const std::byte* held = nullptr;  // its new codes in a device's memory, until there is a record for them
    };

    Status check(StepDownRequest* request) const;
    std::vector<Change> candidates(const StepDownRequest& request) const;
    Status fill_budget(const StepDownRequest& request, std::vector<Change> pages);
    double value_of(const HeadPages& head, const PageEntry& entry, int64_t page_start) const;
    int64_t newest_index(const PageEntry& entry, int64_t page_start) const;
    PageEntry& entry_of(const Change& change) const { return sequence_.layers[change.layer].heads[change.head].coded[change.entry]; }
    int64_t bytes_at(const Change& change, int64_t rung) const { return cache_.layers_[change.layer].rung(rung).code_bytes; }
    void encode(const Change& change, std::byte* out);
    void recode_on_device(std::span<std::byte* const> to);
    bool hold_on_device(int64_t total);

    Cache& cache_;
    Sequence& sequence_;
    std::vector<Change> changes_;
    std::vector<float> k_, v_;  // of the page that is coded anew
    std::vector<std::byte> window_, room_;
    DeviceBlocks blocks_;
};

}  // namespace kvc

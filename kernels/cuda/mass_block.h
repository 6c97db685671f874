// Counters of attention mass on their way from the device to the host.
#pragma once
#include <span>
#include <vector>

#include "core/backend/kernel_table.h"
#include "kernels/cuda/block.h"

namespace kvc::cuda {

// Runs first .. first + n - 1 of an item, as AttendItem::runs() counts them.
struct PagesOfMass {
    const MassItem* mass;
    int64_t first, n;
};

// The items of a call without the pages that were dropped: as many pieces as there are gaps between what is left, and one more.
struct MassParts {
    std::vector<MassItem> tokens;
    std::vector<const AttendParams*> common;  // of each of these
    std::vector<PagesOfMass> pages;

    void split(std::span<const AttendParams* const> params, std::span<const MassItem> items);
    void split_by_pages(std::span<const MassItem> items);
};

// Pinned memory and as much of the device's, which fill up call by call until somebody has waited for the stream.
class MassBlock {
public:
    Status create(int64_t bytes, HeapSource heap);
    int64_t bytes() const { return device_.bytes(); }

    // ---- for the step's own thread ----
    // Whether so many counters more find room.
    bool has_room(int64_t counters) const { return (used_ + counters) * int64_t(sizeof(int64_t)) <= bytes(); }
    bool any() const { return used_ > 0; }

    // A call: clear, kernels that count, fetch, and with the device locked expect.
    int64_t* counters() const { return reinterpret_cast<int64_t*>(device_.data()) + used_; }
    Status clear(int64_t counters, Stream stream);
    Status fetch(int64_t counters, Stream stream);

    // ---- with the device locked ----
    // The next counters are this item's, whose pointers are the host's: of tokens, or of runs.
    void expect(const MassItem& item);
    void expect_pages(const PagesOfMass& pages);
    // After the stream has come to the last fetch.
    void add_to_host();
    // What was expected is nobody's any more.
    void forget() { targets_.clear(); }
    // The room of what has come, or is nobody's, is free again: for the step's own thread.
    void reuse();

private:
    struct Target {
        int64_t* to;
        int64_t from, n;  // counters of the block
    };
    void expect(int64_t* to, int64_t n);

    DeviceBlock device_;
    PinnedBlock host_;
    std::vector<Target> targets_;
    int64_t used_ = 0;
};

}  // namespace kvc::cuda

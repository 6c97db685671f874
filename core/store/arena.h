// The memory of a cache: slabs of one size, each bound to one record size while it holds records of it.
//
// A slab is bound only when every slab of its class is full, so a class that holds at most n records at a time never has more than
// ceil(n / records_per_slab) slabs: the planner's arithmetic is exact. Not thread-safe; the cache's lock guards it.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "core/backend/device.h"
#include "core/base/memory_source.h"
#include "core/base/status.h"

namespace kvc {

struct ArenaOptions {
    int64_t bytes = 0;       // rounded down to whole slabs
    int64_t slab_bytes = 0;  // from slab_bytes_for
    void* block = nullptr;   // memory of the caller instead of the source
    bool growth = false;
    MemorySource source;       // empty: the host's aligned allocation; a device's slabs come from the device, which asks it
    Device* device = nullptr;  // in whose memory slabs lie, the block included; it outlives the arena
};

constexpr int64_t slab_bytes_max = int64_t{2} << 20;

// 2 MiB, or the power of two that still gives a small arena 64 slabs; never less than what holds four of the largest record.
int64_t slab_bytes_for(int64_t arena_bytes, int64_t largest_record);
int64_t slab_bytes_min(int64_t largest_record);
int64_t records_per_slab(int64_t slab_bytes, int64_t record_bytes);
// The smallest arena that has slabs of that size.
int64_t arena_bytes_min(int64_t slab_bytes, int64_t largest_record);
// What slabs of that size, each with a number of its own, can hold at most.
int64_t arena_bytes_max(int64_t slab_bytes);

// What a compaction needs of the host.
struct CompactionRoom {
    std::vector<std::vector<uint32_t>> victims;        // slabs to empty, by size class
    std::vector<std::pair<RecordId, RecordId>> moved;  // where records lay and where they lie now, ascending

    // Where the record lies now.
    RecordId renamed(RecordId id) const {
        const auto found = std::lower_bound(moved.begin(), moved.end(), std::pair(id, RecordId{0}));
        return found != moved.end() && found->first == id ? found->second : id;
    }
};

class Arena {
public:
    static Result<std::unique_ptr<Arena>> create(const ArenaOptions& options, const std::vector<int64_t>& record_sizes);
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    // The class of a record size that was named at creation.
    int class_of(int64_t record_bytes) const;
    // A record with one owner, or 0 when the arena is full.
    RecordId allocate(int size_class);
    void retain(RecordId id);
    // Heap for binding any slab to the class, so that allocate() asks the host for none until the arena is full or grows.
    void prepare_binding(int size_class);
    // Gives up one ownership; true if it was the last and the record is free now.
    bool release(RecordId id);
    bool shared(RecordId id) const;

    // Room for a compaction of the records that there are, or of fewer.
    CompactionRoom prepare_compaction() const;
    // Moves records out of the emptiest slabs of each class into others, so that slabs become free for any class, and says in the room
    // where they lie now; nothing may hold their old ids or bytes. Asks the host for nothing.
    void compact(CompactionRoom* room);

    // ---- bytes of records, wherever they lie (arena_records.cpp) ----

    // Where kernels find the record. The host may look there only if there is no device.
    std::byte* data(RecordId id) const;
    // Its bytes to read: themselves, or on a device a copy in `room`; zeros once the device has failed.
    const std::byte* fetch(RecordId id, std::vector<std::byte>& room) const;
    // Replaces all of its bytes.
    void put(RecordId id, const std::byte* bytes);
    void copy(RecordId from, RecordId to);
    // On a device: new code records out of others', queued there.
    void recode(std::span<const RecodeParams> jobs);
    // On a device: numbers of tokens that its records hold. Waits for them.
    Status measure(std::span<const StatisticJob> jobs) const;
    Status route(std::span<const RouteJob> jobs) const;
    Status fold(std::span<const FoldJob> jobs) const;
    // On a device: tokens into records, and a record's bytes out of memory of the device; queued there.
    void store(std::span<const StoreParams> jobs);
    void put_from(RecordId id, const std::byte* there);
    // Numbers in the device's memory; zeros once it has failed.
    void fetch_numbers(const float* there, std::span<float> out) const;
    // Positions of a repacked page. The host reads them often, so on a device it keeps a copy.
    const PageSide& side(RecordId id) const;
    void put_side(RecordId id, const PageSide& side);
    // The same where a job of recode() writes the record.
    void note_side(RecordId id, const PageSide& side);
    // Why the device failed in one of these, or in what its user noted; from then on the bytes mean nothing.
    Status fault() const;
    void note_fault(const Status& status) const;
    // What the device said to a call that can be refused: noted if it is a fault.
    Status answered(const Status& status) const;

    ArenaView view() const { return {slab_data_.get()}; }

    int64_t slab_count() const { return slab_count_ + 1; }  // as the view counts them
    // What slab_count() can become at most.
    int64_t slab_count_limit() const { return slab_capacity_; }
    int64_t slab_bytes() const { return slab_bytes_; }
    int64_t total_bytes() const { return slab_count_ * slab_bytes_; }
    // What total_bytes can become at most.
    int64_t limit_bytes() const { return (slab_capacity_ - 1) * slab_bytes_; }
    int64_t bound_bytes() const { return bound_slabs_ * slab_bytes_; }
    int64_t bytes_in_use() const;
    // Heap of the lists of slabs, free records and owners.
    int64_t table_bytes() const;
    int64_t record_bytes(int size_class) const { return classes_[size_t(size_class)].record_bytes; }
    // Of a record that the caller holds; also while other threads allocate.
    int class_of_record(RecordId id) const { return slab_class_[slab_of(id)]; }
    size_t class_count() const { return classes_.size(); }

private:
    friend class ArenaForecast;

    struct Slab {
        int size_class = -1;
        int64_t partial_index = -1;  // place in the class's list of slabs with free records; -1: full or unbound
        std::vector<uint16_t> free;
        std::vector<uint32_t> owners;
        std::vector<PageSide> sides;  // on a device, of records that have their size
    };
    struct SizeClass {
        int64_t record_bytes = 0, per_slab = 0, in_use = 0;
        std::vector<uint32_t> partial;
    };

    Arena() = default;
    std::byte* take(int64_t bytes);
    void add_slab(std::byte* data);
    bool grow();
    bool bind_slab(int size_class);
    bool keeps_sides(int64_t record_bytes) const { return options_.device && record_bytes == side_bytes; }
    void find_slabs_to_empty(int size_class, std::vector<uint32_t>* slabs) const;
    void empty_slab(int size_class, uint32_t slab, CompactionRoom* room);
    void list_partial(uint32_t slab);
    void unlist_partial(uint32_t slab);
    static uint32_t slab_of(RecordId id) { return id >> record_index_bits; }
    static uint32_t index_of(RecordId id) { return id & ((1u << record_index_bits) - 1); }

    int64_t slab_bytes_ = 0, slab_count_ = 0, slab_capacity_ = 0, bound_slabs_ = 0;
    ArenaOptions options_;
    std::byte* block_ = nullptr;  // the first slabs, in one piece
    int64_t first_slabs_ = 0;
    std::unique_ptr<std::byte*[]> slab_data_;  // never moves: kernels read it without the lock; entry 0 stays empty
    std::unique_ptr<int32_t[]> slab_class_;    // of bound slabs, likewise
    std::vector<Slab> slabs_;
    std::vector<uint32_t> unbound_;
    std::vector<SizeClass> classes_;

    std::atomic<bool> mutable failed_{false};
    std::mutex mutable fault_mutex_;
    Status mutable fault_;
};

}  // namespace kvc

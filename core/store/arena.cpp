#include "core/store/arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/base/capacity.h"
#include "core/base/size.h"

namespace kvc {
namespace {

constexpr int64_t slab_bytes_floor = int64_t{64} << 10;  // also at least the alignment that hosts ask for
constexpr int64_t slabs_of_small_arena = 64;
constexpr int64_t slab_limit = int64_t{1} << 20;  // slabs that a RecordId can name
constexpr int64_t records_limit = int64_t{1} << record_index_bits;

constexpr int64_t huge_page_bytes = int64_t{2} << 20;

// Attention streams whole slabs: huge pages save most of its TLB misses. A block that begins between two of them has up to 2 MiB of small
// pages, and where it begins is chance: a program of one language had 1 MiB of them each time, a program of another one none.
void* host_allocate(void*, int64_t bytes, int64_t alignment) {
    if (bytes >= huge_page_bytes) alignment = std::max(alignment, huge_page_bytes);
    void* block = std::aligned_alloc(size_t(alignment), size_t(round_up(bytes, alignment)));
#ifdef __linux__
    // A refusal changes nothing.
    if (block) madvise(block, size_t(bytes), MADV_HUGEPAGE);
#endif
    return block;
}
void host_release(void*, void* block, int64_t) { std::free(block); }

void* device_allocate(void* device, int64_t bytes, int64_t) { return static_cast<Device*>(device)->allocate(bytes); }
void device_release(void* device, void* block, int64_t) { static_cast<Device*>(device)->release(static_cast<std::byte*>(block)); }

constexpr int64_t record_alignment = 128;
bool aligned(const std::byte* block) { return reinterpret_cast<uintptr_t>(block) % record_alignment == 0; }

}  // namespace

int64_t slab_bytes_min(int64_t largest_record) {
    int64_t bytes = slab_bytes_floor;
    while (bytes < 4 * largest_record)
        bytes *= 2;
    return bytes;
}

int64_t slab_bytes_for(int64_t arena_bytes, int64_t largest_record) {
    const int64_t least = slab_bytes_min(largest_record);
    int64_t bytes = std::max(slab_bytes_max, least);
    while (bytes > least && arena_bytes < slabs_of_small_arena * bytes)
        bytes /= 2;
    return bytes;
}

int64_t records_per_slab(int64_t slab_bytes, int64_t record_bytes) { return std::min(slab_bytes / record_bytes, records_limit); }

int64_t arena_bytes_min(int64_t slab_bytes, int64_t largest_record) {
    return slab_bytes == slab_bytes_min(largest_record) ? slab_bytes : slabs_of_small_arena * slab_bytes;
}

int64_t arena_bytes_max(int64_t slab_bytes) { return (slab_limit - 1) * slab_bytes; }

Result<std::unique_ptr<Arena>> Arena::create(const ArenaOptions& options, const std::vector<int64_t>& record_sizes) {
    std::unique_ptr<Arena> arena(new Arena);
    arena->options_ = options;
    if (options.device) {
        arena->options_.source = {device_allocate, device_release, options.device};
    } else if (!options.source.allocate) {
        arena->options_.source = {host_allocate, host_release, nullptr};
    }
    arena->slab_bytes_ = options.slab_bytes;
    for (int64_t bytes : record_sizes) {
        const auto same = [&](const SizeClass& c) { return c.record_bytes == bytes; };
        if (bytes == 0 || std::any_of(arena->classes_.begin(), arena->classes_.end(), same)) continue;
        SizeClass size_class;
        size_class.record_bytes = bytes;
        size_class.per_slab = records_per_slab(options.slab_bytes, bytes);
        arena->classes_.push_back(size_class);
    }
    const int64_t slabs = options.bytes / options.slab_bytes;
    if (slabs >= slab_limit) return fail(Code::argument, "arena: ", options.bytes, " bytes are more than a cache can address");
    if (slabs < 1 && !options.growth) {
        return fail(Code::argument, "arena: ", options.bytes, " bytes are less than one slab of ", options.slab_bytes);
    }
    arena->slab_capacity_ = options.growth ? slab_limit : slabs + 1;
    arena->slab_data_.reset(new std::byte*[size_t(arena->slab_capacity_)]);
    arena->slab_data_[0] = nullptr;
    arena->slab_class_.reset(new int32_t[size_t(arena->slab_capacity_)]);
    arena->slabs_.resize(1);
    arena->first_slabs_ = slabs;
    if (slabs > 0) {
        arena->block_ = options.block ? static_cast<std::byte*>(options.block) : arena->take(slabs * options.slab_bytes);
        const char* const source = options.source.allocate ? "allocate" : options.device ? "the device" : "the host";
        if (!arena->block_) return fail(Code::no_memory, "arena: ", source, " refused ", slabs * options.slab_bytes, " bytes");
        if (!aligned(arena->block_)) {
            return fail(Code::argument, "allocate gave a block that is not ", record_alignment, "-byte aligned; it was asked for ",
                        options.slab_bytes);
        }
    }
    for (int64_t i = 0; i < slabs; i++)
        arena->add_slab(arena->block_ + i * options.slab_bytes);
    return arena;
}

Arena::~Arena() {
    const MemorySource& source = options_.source;
    if (block_ && !options_.block) source.release(source.context, block_, first_slabs_ * slab_bytes_);
    for (int64_t i = first_slabs_ + 1; i <= slab_count_; i++)
        source.release(source.context, slab_data_[size_t(i)], slab_bytes_);
}

std::byte* Arena::take(int64_t bytes) {
    return static_cast<std::byte*>(options_.source.allocate(options_.source.context, bytes, slab_bytes_));
}

int Arena::class_of(int64_t record_bytes) const {
    for (size_t i = 0; i < classes_.size(); i++) {
        if (classes_[i].record_bytes == record_bytes) return int(i);
    }
    return -1;
}

void Arena::add_slab(std::byte* data) {
    slabs_.reserve(slabs_.size() + 1);
    unbound_.reserve(slabs_.size() + 1);  // so that returning a slab never allocates
    slab_count_++;
    slab_data_[size_t(slab_count_)] = data;
    slabs_.emplace_back();
    unbound_.push_back(uint32_t(slab_count_));
}

// Takes one more slab from the source; a failure of any kind leaves the arena as it was.
bool Arena::grow() {
    if (!options_.growth || slab_count_ + 1 >= slab_capacity_) return false;
    slabs_.reserve(slabs_.size() + 1);
    unbound_.reserve(slabs_.size() + 1);
    std::byte* data = take(slab_bytes_);
    if (!data) return false;
    if (!aligned(data)) {  // no slab for us, and not to be lost either
        options_.source.release(options_.source.context, data, slab_bytes_);
        return false;
    }
    add_slab(data);
    return true;
}

bool Arena::bind_slab(int size_class) {
    if (unbound_.empty() && !grow()) return false;
    SizeClass& c = classes_[size_t(size_class)];
    const uint32_t id = unbound_.back();
    Slab& slab = slabs_[id];
    slab.free.resize(size_t(c.per_slab));
    slab.owners.assign(size_t(c.per_slab), 0);
    slab.sides.resize(keeps_sides(c.record_bytes) ? size_t(c.per_slab) : 0);
    c.partial.reserve(slabs_.size());
    for (int64_t i = 0; i < c.per_slab; i++)
        slab.free[size_t(i)] = uint16_t(c.per_slab - 1 - i);
    slab.size_class = size_class;
    slab_class_[id] = size_class;
    unbound_.pop_back();
    bound_slabs_++;
    list_partial(id);
    return true;
}

void Arena::prepare_binding(int size_class) {
    SizeClass& c = classes_[size_t(size_class)];
    c.partial.reserve(slabs_.size());
    for (Slab& slab : slabs_) {
        slab.free.reserve(size_t(c.per_slab));
        slab.owners.reserve(size_t(c.per_slab));
        if (keeps_sides(c.record_bytes)) slab.sides.reserve(size_t(c.per_slab));
    }
}

void Arena::list_partial(uint32_t id) {
    SizeClass& c = classes_[size_t(slabs_[id].size_class)];
    slabs_[id].partial_index = int64_t(c.partial.size());
    c.partial.push_back(id);
}

void Arena::unlist_partial(uint32_t id) {
    Slab& slab = slabs_[id];
    SizeClass& c = classes_[size_t(slab.size_class)];
    const uint32_t last = c.partial.back();
    c.partial[size_t(slab.partial_index)] = last;
    slabs_[last].partial_index = slab.partial_index;
    c.partial.pop_back();
    slab.partial_index = -1;
}

int64_t Arena::table_bytes() const {
    int64_t bytes = (Size(slab_capacity_) * int64_t(sizeof(std::byte*) + sizeof(int32_t))).value();
    bytes += capacity_bytes(slabs_) + capacity_bytes(unbound_) + capacity_bytes(classes_);
    for (const Slab& slab : slabs_)
        bytes += capacity_bytes(slab.free) + capacity_bytes(slab.owners) + capacity_bytes(slab.sides);
    for (const SizeClass& size_class : classes_)
        bytes += capacity_bytes(size_class.partial);
    return bytes;
}

int64_t Arena::bytes_in_use() const {
    int64_t bytes = 0;
    for (const SizeClass& c : classes_)
        bytes += (Size(c.in_use) * c.record_bytes).value();
    return bytes;
}

RecordId Arena::allocate(int size_class) {
    SizeClass& c = classes_[size_t(size_class)];
    if (c.partial.empty() && !bind_slab(size_class)) return 0;
    const uint32_t id = c.partial.back();
    Slab& slab = slabs_[id];
    const uint32_t index = slab.free.back();
    slab.free.pop_back();
    slab.owners[index] = 1;
    c.in_use++;
    if (slab.free.empty()) unlist_partial(id);
    return id << record_index_bits | index;
}

void Arena::retain(RecordId id) { slabs_[slab_of(id)].owners[index_of(id)]++; }

bool Arena::shared(RecordId id) const { return slabs_[slab_of(id)].owners[index_of(id)] > 1; }

bool Arena::release(RecordId id) {
    Slab& slab = slabs_[slab_of(id)];
    if (--slab.owners[index_of(id)] > 0) return false;
#ifndef NDEBUG
    // 0xff.. is NaN in fp16, bf16 and f32: whoever reads a record that is no longer owned shows it.
    if (!options_.device) std::memset(data(id), 0xff, size_t(classes_[size_t(slab.size_class)].record_bytes));
#endif
    SizeClass& c = classes_[size_t(slab.size_class)];
    slab.free.push_back(uint16_t(index_of(id)));
    c.in_use--;
    if (slab.partial_index < 0) list_partial(slab_of(id));
    if (int64_t(slab.free.size()) == c.per_slab) {
        unlist_partial(slab_of(id));
        slab.size_class = -1;
        unbound_.push_back(slab_of(id));
        bound_slabs_--;
    }
    return true;
}

// The emptiest slabs of a class, as many as the others have room for.
void Arena::find_slabs_to_empty(int size_class, std::vector<uint32_t>* slabs) const {
    const SizeClass& c = classes_[size_t(size_class)];
    for (uint32_t id = 1; id < slabs_.size(); id++) {
        if (slabs_[id].size_class == size_class) slabs->push_back(id);
    }
    const int64_t needed = ceil_div(c.in_use, c.per_slab);
    std::sort(slabs->begin(), slabs->end(), [&](uint32_t a, uint32_t b) { return slabs_[a].free.size() > slabs_[b].free.size(); });
    slabs->resize(slabs->size() - size_t(needed));
}

CompactionRoom Arena::prepare_compaction() const {
    CompactionRoom room;
    room.victims.resize(classes_.size());
    int64_t records = 0;
    for (size_t i = 0; i < classes_.size(); i++) {
        room.victims[i].reserve(slabs_.size());
        records += classes_[i].in_use;
    }
    room.moved.reserve(size_t(records));
    return room;
}

void Arena::compact(CompactionRoom* room) {
    for (size_t i = 0; i < classes_.size(); i++) {
        find_slabs_to_empty(int(i), &room->victims[i]);
        for (uint32_t slab : room->victims[i]) {
            for (uint32_t r = 0; r < slabs_[slab].owners.size(); r++) {
                if (slabs_[slab].owners[r] > 0) room->moved.emplace_back(slab << record_index_bits | r, 0);
            }
        }
    }
    std::sort(room->moved.begin(), room->moved.end());
    for (size_t i = 0; i < classes_.size(); i++) {
        // A slab to be emptied has free records, so it is listed; once it is not, allocate() cannot choose it.
        for (uint32_t slab : room->victims[i])
            unlist_partial(slab);
        for (uint32_t slab : room->victims[i])
            empty_slab(int(i), slab, room);
    }
}

void Arena::empty_slab(int size_class, uint32_t slab, CompactionRoom* room) {
    SizeClass& c = classes_[size_t(size_class)];
    auto moved = std::lower_bound(room->moved.begin(), room->moved.end(), std::pair(slab << record_index_bits, RecordId{0}));
    for (uint32_t i = 0; i < slabs_[slab].owners.size(); i++) {
        if (slabs_[slab].owners[i] == 0) continue;
        const RecordId from = slab << record_index_bits | i, to = allocate(size_class);
        copy(from, to);
        slabs_[slab_of(to)].owners[index_of(to)] = slabs_[slab].owners[i];
        c.in_use--;
        (moved++)->second = to;
    }
    slabs_[slab].size_class = -1;
    unbound_.push_back(slab);
    bound_slabs_--;
}

}  // namespace kvc

// The memory of one emulated device: memory of the host that neither the host nor another device may touch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>

namespace kvc::simt {

// Under the address sanitizer, device memory is poisoned except while an operation of the device runs, so that host code which
// dereferences an address of the device's is reported. Without it, blocks are whole pages that cannot be accessed while an operation of
// another device runs.
class DeviceMemory {
public:
    ~DeviceMemory();

    std::byte* allocate(int64_t bytes);  // full of NaN
    void release(std::byte* block);
    // A block that a stream gives when it comes to it: until then no operation may touch it.
    std::byte* allocate_later(int64_t bytes);
    void give(std::byte* block);
    // A stream takes the block back when it comes to it: nothing that is queued from now on may name it.
    void part_with(std::byte* block) { leaving_.insert(block); }
    std::byte* allocate_pinned(int64_t bytes);
    void release_pinned(std::byte* block);

    // Whether the bytes lie in one block that may be named; whether they are of one that has not been given yet.
    bool holds(const void* p, int64_t bytes) const { return lies_in(blocks_, p, bytes) && !lies_in_any(leaving_, p); }
    bool is_coming(const void* p) const { return lies_in_any(coming_, p); }
    bool holds_pinned(const void* p, int64_t bytes) const { return lies_in(pinned_, p, bytes); }

    // Around each operation of the device.
    void unlock() const;
    void lock() const;
    // Around each operation of another one.
    void hide() const;
    void show() const;

    int64_t block_count() const { return int64_t(blocks_.size()); }
    int64_t pinned_count() const { return int64_t(pinned_.size()); }

private:
    using Blocks = std::map<const std::byte*, int64_t>;  // and their bytes
    static bool lies_in(const Blocks& blocks, const void* p, int64_t bytes);
    bool lies_in_any(const std::set<const std::byte*>& some, const void* p) const;
    static std::byte* add(Blocks& blocks, int64_t bytes);
    static void remove(Blocks& blocks, std::byte* block);

    Blocks blocks_, pinned_;
    std::set<const std::byte*> coming_, leaving_;  // of blocks_
};

}  // namespace kvc::simt

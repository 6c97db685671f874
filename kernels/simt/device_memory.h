// The memory of the emulated device: memory of the host that the host may not touch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>

namespace kvc::simt {

// Under the address sanitizer, device memory is poisoned except while an operation of the device runs, so that host code which
// dereferences an address of the device's is reported.
class DeviceMemory {
public:
    ~DeviceMemory();

    std::byte* allocate(int64_t bytes);  // full of NaN
    void release(std::byte* block);
    std::byte* allocate_pinned(int64_t bytes);
    void release_pinned(std::byte* block);

    // Whether the bytes lie in one block.
    bool holds(const void* p, int64_t bytes) const { return lies_in(blocks_, p, bytes); }
    bool holds_pinned(const void* p, int64_t bytes) const { return lies_in(pinned_, p, bytes); }

    // Around each operation.
    void unlock() const;
    void lock() const;

    int64_t block_count() const { return int64_t(blocks_.size()); }
    int64_t pinned_count() const { return int64_t(pinned_.size()); }

private:
    using Blocks = std::map<const std::byte*, int64_t>;  // and their bytes
    static bool lies_in(const Blocks& blocks, const void* p, int64_t bytes);
    static std::byte* add(Blocks& blocks, int64_t bytes);
    static void remove(Blocks& blocks, std::byte* block);

    Blocks blocks_, pinned_;
};

}  // namespace kvc::simt

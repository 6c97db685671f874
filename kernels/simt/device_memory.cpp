#include "kernels/simt/device_memory.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/size.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define KVC_SIMT_POISONS 1
#else
#define KVC_SIMT_POISONS 0
#define ASAN_POISON_MEMORY_REGION(address, size) (void(address), void(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (void(address), void(size))
#endif

namespace kvc::simt {
namespace {

int64_t page_bytes() {
    static const int64_t bytes = sysconf(_SC_PAGESIZE);
    return bytes;
}

// Poison ends where a block does, access where a page does.
std::align_val_t alignment() { return std::align_val_t(KVC_SIMT_POISONS ? 256 : page_bytes()); }
size_t whole_bytes(int64_t bytes) { return size_t(KVC_SIMT_POISONS ? bytes : round_up(bytes, page_bytes())); }

void set_access(const std::byte* block, int64_t bytes, int access) {
    if (!KVC_SIMT_POISONS && mprotect(const_cast<std::byte*>(block), whole_bytes(bytes), access) != 0) {
        throw std::bad_alloc();  // too many ranges for the system
    }
}

}  // namespace

DeviceMemory::~DeviceMemory() {
    while (!blocks_.empty()) {
        release(const_cast<std::byte*>(blocks_.begin()->first));
    }
    while (!pinned_.empty()) {
        release_pinned(const_cast<std::byte*>(pinned_.begin()->first));
    }
}

bool DeviceMemory::lies_in(const Blocks& blocks, const void* p, int64_t bytes) {
    const auto* const first = static_cast<const std::byte*>(p);
    auto block = blocks.upper_bound(first);
    if (block == blocks.begin()) {
        return false;
    }
    block--;
    return bytes >= 0 && first + bytes <= block->first + block->second;
}

bool DeviceMemory::lies_in_any(const std::set<const std::byte*>& some, const void* p) const {
    return std::any_of(some.begin(), some.end(), [&](const std::byte* block) { return p >= block && p < block + blocks_.at(block); });
}

std::byte* DeviceMemory::add(Blocks& blocks, int64_t bytes) {
    auto* const block = static_cast<std::byte*>(::operator new(whole_bytes(bytes), alignment(), std::nothrow));
    if (block) {
        std::memset(block, 0xff, size_t(bytes));
        blocks[block] = bytes;
    }
    return block;
}

void DeviceMemory::remove(Blocks& blocks, std::byte* block) {
    if (block) {
        blocks.erase(block);
        ::operator delete(block, alignment());
    }
}

std::byte* DeviceMemory::allocate(int64_t bytes) {
    std::byte* const block = add(blocks_, bytes);
    if (block) {
        ASAN_POISON_MEMORY_REGION(block, size_t(bytes));
    }
    return block;
}

std::byte* DeviceMemory::allocate_later(int64_t bytes) {
    std::byte* const block = allocate(bytes);
    if (block) {
        coming_.insert(block);
        set_access(block, bytes, PROT_NONE);
    }
    return block;
}

void DeviceMemory::give(std::byte* block) {
    if (coming_.erase(block) > 0) {
        ASAN_UNPOISON_MEMORY_REGION(block, size_t(blocks_.at(block)));
        set_access(block, blocks_.at(block), PROT_READ | PROT_WRITE);
    }
}

void DeviceMemory::release(std::byte* block) {
    if (block) {
        give(block);
        leaving_.erase(block);
        ASAN_UNPOISON_MEMORY_REGION(block, size_t(blocks_.at(block)));
    }
    remove(blocks_, block);
}

std::byte* DeviceMemory::allocate_pinned(int64_t bytes) { return add(pinned_, bytes); }
void DeviceMemory::release_pinned(std::byte* block) { remove(pinned_, block); }

void DeviceMemory::unlock() const {
    for (const auto& [block, bytes] : blocks_) {
        if (coming_.contains(block)) {
            continue;
        }
        ASAN_UNPOISON_MEMORY_REGION(block, size_t(bytes));
    }
}

void DeviceMemory::lock() const {
    for (const auto& [block, bytes] : blocks_) {
        ASAN_POISON_MEMORY_REGION(block, size_t(bytes));
    }
}

void DeviceMemory::hide() const {
    for (const auto& [block, bytes] : blocks_) {
        set_access(block, bytes, PROT_NONE);
    }
}

void DeviceMemory::show() const {
    for (const auto& [block, bytes] : blocks_) {
        set_access(block, bytes, coming_.contains(block) ? PROT_NONE : PROT_READ | PROT_WRITE);
    }
}

}  // namespace kvc::simt

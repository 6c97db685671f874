#include "tests/cuda/native/pool.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <mutex>
#include <new>

namespace kvc_test {
namespace {

constexpr int page_shift = 16, size_classes = 48, least_class = 5;

// Blocks are powers of two, aligned to their size up to a page; a freed block waits for the next of its size. A page holds blocks of
// one size, and a larger block begins with a page, so an address tells the size of its block.
class Pool {
public:
    bool open(size_t bytes, PoolMemory kind) {
        void* memory = nullptr;
        pages_ = bytes >> page_shift;
        class_of_page_ = static_cast<uint8_t*>(std::calloc(pages_, 1));
        const size_t size = pages_ << page_shift;
        const cudaError_t error =
            kind == PoolMemory::pinned ? cudaHostAlloc(&memory, size, cudaHostAllocMapped) : cudaMallocManaged(&memory, size);
        if (!class_of_page_ || error != cudaSuccess) {
            return false;
        }
        begin_ = static_cast<std::byte*>(memory);
        return true;
    }
    bool is_open() const { return begin_ != nullptr; }
    bool holds(const void* p) const { return begin_ && p >= begin_ && p < begin_ + (pages_ << page_shift); }

    void* take(size_t bytes, size_t alignment) {
        const std::scoped_lock lock(mutex_);
        const size_t wanted = bytes > alignment ? bytes : alignment;
        const int c = wanted <= size_t{1} << least_class ? least_class : int(std::bit_width(wanted - 1));
        if (!free_[size_t(c)] && !add_blocks(c)) {
            return nullptr;
        }
        Free* const block = free_[size_t(c)];
        free_[size_t(c)] = block->next;
        return block;
    }

    void give(void* p) {
        const std::scoped_lock lock(mutex_);
        const size_t page = size_t(static_cast<std::byte*>(p) - begin_) >> page_shift;
        auto* const block = static_cast<Free*>(p);
        block->next = free_[class_of_page_[page]];
        free_[class_of_page_[page]] = block;
    }

private:
    struct Free {
        Free* next;
    };

    bool add_blocks(int c) {
        const size_t n = c <= page_shift ? 1 : size_t{1} << (c - page_shift);
        if (next_page_ + n > pages_) {
            return false;
        }
        std::byte* const first = begin_ + (next_page_ << page_shift);
        class_of_page_[next_page_] = uint8_t(c);
        next_page_ += n;
        for (size_t at = n << page_shift; at >= size_t{1} << c; at -= size_t{1} << c) {
            auto* const block = reinterpret_cast<Free*>(first + at - (size_t{1} << c));
            block->next = free_[size_t(c)];
            free_[size_t(c)] = block;
        }
        return true;
    }

    std::mutex mutex_;
    std::byte* begin_ = nullptr;
    size_t pages_ = 0, next_page_ = 0;
    uint8_t* class_of_page_ = nullptr;
    std::array<Free*, size_classes> free_{};
};

constinit Pool pool;

void* allocate(size_t bytes, size_t alignment) {
    void* const p = pool.is_open()    ? pool.take(bytes, alignment)
                    : alignment <= 16 ? std::malloc(bytes)
                                      : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (!p) {
        throw std::bad_alloc();
    }
    return p;
}

// What was allocated before the pool was open goes back where it came from.
void release(void* p) {
    if (pool.holds(p)) {
        pool.give(p);
    } else {
        std::free(p);
    }
}

}  // namespace

bool open_pool(size_t bytes, PoolMemory memory) { return pool.open(bytes, memory); }

bool in_pool(const void* address) { return pool.holds(address); }

}  // namespace kvc_test

using kvc_test::allocate;
using kvc_test::release;

void* operator new(size_t bytes) { return allocate(bytes, 16); }
void* operator new[](size_t bytes) { return allocate(bytes, 16); }
void* operator new(size_t bytes, std::align_val_t alignment) { return allocate(bytes, size_t(alignment)); }
void* operator new[](size_t bytes, std::align_val_t alignment) { return allocate(bytes, size_t(alignment)); }
void operator delete(void* p) noexcept { release(p); }
void operator delete[](void* p) noexcept { release(p); }
void operator delete(void* p, size_t) noexcept { release(p); }
void operator delete[](void* p, size_t) noexcept { release(p); }
void operator delete(void* p, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { release(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { release(p); }

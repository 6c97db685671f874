#include "tests/exhausted/host_malloc.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <mutex>

extern "C" void* __libc_malloc(size_t bytes);
extern "C" void* __libc_calloc(size_t n, size_t bytes);
extern "C" void* __libc_realloc(void* block, size_t bytes);
extern "C" void* __libc_memalign(size_t alignment, size_t bytes);
extern "C" void __libc_free(void* block);

namespace host_malloc {

thread_local bool refusing = false;
thread_local int64_t granted = 0;

namespace {

// The blocks in use with the sizes that were asked for: what the allocator rounds them to depends on its past.
class Ledger {
public:
    void add(void* block, size_t bytes) {
        if (!block) return;
        std::lock_guard lock(mutex_);
        size_t i = first_place(block);
        for (size_t steps = 0; blocks_[i].at != nullptr && blocks_[i].at != removed; i = (i + 1) % blocks_.size())
            if (++steps == blocks_.size()) std::abort();
        blocks_[i] = {block, bytes};
        in_use_ += int64_t(bytes);
    }

    // Blocks that it does not know, from before main, are not counted.
    void remove(void* block) {
        if (!block) return;
        std::lock_guard lock(mutex_);
        for (size_t i = first_place(block), steps = 0; blocks_[i].at != nullptr && steps < blocks_.size();
             i = (i + 1) % blocks_.size(), steps++) {
            if (blocks_[i].at != block) continue;
            in_use_ -= int64_t(blocks_[i].bytes);
            blocks_[i].at = removed;
            return;
        }
    }

    int64_t in_use() {
        std::lock_guard lock(mutex_);
        return in_use_;
    }

private:
    struct Block {
        void* at = nullptr;
        size_t bytes = 0;
    };
    static inline char removed_mark = 0;
    static constexpr void* removed = &removed_mark;
    size_t first_place(void* block) const {
        return size_t(reinterpret_cast<uintptr_t>(block) / 16 * 0x9e3779b97f4a7c15u) % blocks_.size();
    }

    std::mutex mutex_;
    std::array<Block, 1 << 18> blocks_{};
    int64_t in_use_ = 0;
};

constinit Ledger ledger;

bool refused() {
    if (!refusing || granted-- > 0) return false;
    errno = ENOMEM;
    return true;
}

void* counted(void* block, size_t bytes) {
    ledger.add(block, bytes);
    return block;
}

}  // namespace

int64_t bytes_in_use() { return ledger.in_use(); }

}  // namespace host_malloc

using namespace host_malloc;

extern "C" void* malloc(size_t bytes) { return refused() ? nullptr : counted(__libc_malloc(bytes), bytes); }
extern "C" void* calloc(size_t n, size_t bytes) { return refused() ? nullptr : counted(__libc_calloc(n, bytes), n * bytes); }
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
    return refused() ? nullptr : counted(__libc_memalign(alignment, bytes), bytes);
}
extern "C" void* realloc(void* block, size_t bytes) {
    if (refused()) return nullptr;
    ledger.remove(block);
    return counted(__libc_realloc(block, bytes), bytes);
}
extern "C" void free(void* block) {
    ledger.remove(block);
    __libc_free(block);
}

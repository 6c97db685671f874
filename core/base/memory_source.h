// A caller's functions that give memory and take it back.
#pragma once
#include <cstdint>

namespace kvc {

struct MemorySource {                                                              // empty: the caller gave none
    void* (*allocate)(void* context, int64_t bytes, int64_t alignment) = nullptr;  // nullptr: refused
    void (*release)(void* context, void* block, int64_t bytes) = nullptr;
    void* context = nullptr;
};

}  // namespace kvc

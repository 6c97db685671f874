// Memory that a GPU reads and writes where it lies. Once the pool is open, all that this program allocates with new lies in it, so that
// every address that a test makes (records, page tables, queries, states) is one that kernels can use.
#pragma once
#include <cstddef>

namespace kvc_test {

// Pinned and mapped memory of the current device; false if there is none to be had.
bool open_pool(size_t bytes);

bool in_pool(const void* address);

}  // namespace kvc_test

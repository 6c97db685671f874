// Memory that a GPU reads and writes where it lies. Once the pool is open, all that this program allocates with new lies in it, so that
// every address that a test makes (records, page tables, queries, states) is one that kernels can use.
#pragma once
#include <cstddef>

namespace kvc_test {

enum class PoolMemory { pinned, managed };  // in the host's memory, mapped for the device; or moved by the driver as it is used

// False if there is no such memory to be had.
bool open_pool(size_t bytes, PoolMemory memory);

bool in_pool(const void* address);

}  // namespace kvc_test

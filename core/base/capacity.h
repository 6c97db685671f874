// Heap that a vector holds, for statistics.
#pragma once

#include <cstdint>
#include <vector>

namespace kvc {

template <class T>
int64_t capacity_bytes(const std::vector<T>& values) {
    return int64_t(values.capacity() * sizeof(T));
}

}  // namespace kvc

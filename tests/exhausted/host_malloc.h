// This program's malloc: it counts the bytes in use, and refuses when it is told to.
#pragma once

#include <cstdint>

namespace host_malloc {

extern thread_local bool refusing;
extern thread_local int64_t granted;  // requests that are still served while refusing

// Bytes of the heap that the whole program has asked for and not given back.
int64_t bytes_in_use();

}  // namespace host_malloc

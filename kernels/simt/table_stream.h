// What table.cpp launches kernels on. table_stream.cpp answers for the emulator, tests/cuda/native/table_stream.cu for a GPU.
#pragma once
#include <initializer_list>

#include "kernels/cuda/simt.cuh"

namespace kvc::simt {

extern const char* const table_name;

Stream table_stream();

// Returns when everything that was launched has been done, and its results can be read; throws or ends the program if it failed.
void finish_launches();

// Throws Fault if one of the addresses is such that kernels on a GPU could not read it: on a thread's stack, or a static object.
// nullptr is none. A test that hands such an address over would pass on the emulator alone.
void require_readable(std::initializer_list<const void*> addresses);

}  // namespace kvc::simt

// Stands in for the CUDA runtime: kernels that the library launches are not run, but noted.
#pragma once
#include <map>
#include <string>

namespace kvc_test {

// The architecture that kernels' code is said to be for from now on: 90, as in sm_90.
void set_architecture(int architecture);

// Of every kernel that was launched since then, by its name in machine code: the most dynamic shared memory that a launch asked for.
const std::map<std::string, size_t>& launched_kernels();

}  // namespace kvc_test

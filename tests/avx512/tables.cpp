// What tests/kernels and tests/lanes run over here: AVX-512 alone.
#include <doctest/doctest.h>
#include <string>

#include "tests/kernels/head.h"
#include "tests/lanes/lanes.h"

namespace kvc_test {

std::vector<const KernelTable*> tables_under_test() {
    const KernelTable* best = kvc::kernel_table(0);
    REQUIRE_MESSAGE(std::string(best->name) == "avx512", "the best target of this machine is ", best->name);
    return {best};
}

// An emulated processor takes a hundred times as long.
int grid_stride() { return 3; }

std::vector<LaneTarget> lanes_under_test() { return {avx512_lanes()}; }

}  // namespace kvc_test

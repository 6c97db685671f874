// The tables of this program: the emulated CUDA backend, which kernel_table() does not list.
#include "kernels/simt/table.h"
#include "tests/kernels/head.h"

namespace kvc_test {

std::vector<const KernelTable*> tables_under_test() { return {kvc::simt::cuda_table()}; }

// The sanitizers see the same code in every combination; 7 divides no side of a grid.
#ifdef __SANITIZE_ADDRESS__
int grid_stride() { return 7; }
#else
int grid_stride() { return 1; }
#endif

}  // namespace kvc_test

// The tables of this program: the emulated CUDA backend, which kernel_table() does not list.
#include "kernels/simt/table.h"
#include "tests/kernels/head.h"

namespace kvc_test {

std::vector<const KernelTable*> tables_under_test() { return {kvc::simt::cuda_table()}; }

int grid_stride() { return 1; }

}  // namespace kvc_test

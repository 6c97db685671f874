// The tables that this machine offers to users.
#include "tests/kernels/head.h"

namespace kvc_test {

std::vector<const KernelTable*> tables_under_test() {
    std::vector<const KernelTable*> tables;
    for (int i = 0; i < kvc::kernel_table_count(); ++i) {
        tables.push_back(kvc::kernel_table(i));
    }
    return tables;
}

// Under an emulator a whole grid takes a quarter of an hour, and sanitizers see the same code in every combination; 7 divides no side of one.
#if defined(KVC_TESTS_EMULATED) || defined(__SANITIZE_ADDRESS__)
int grid_stride() { return 7; }
#else
int grid_stride() { return 1; }
#endif

}  // namespace kvc_test

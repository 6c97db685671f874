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

int grid_stride() { return 1; }

}  // namespace kvc_test

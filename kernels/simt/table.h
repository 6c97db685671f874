// The CUDA kernels as a kernel table that runs on the CPU: for tests. No user gets it, so kernel_table() does not list it.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/simt/machine.h"

namespace kvc::simt {

// "cuda-simt": launches run in the calling thread, in forward order unless an order was set.
const KernelTable* cuda_table();

// In which order the calling thread's launches run the threads of a block from now on.
void set_lane_order(LaneOrder order, uint64_t seed = 1);

// Which architecture they find: 80 and later, as in sm_80. Until an order is set; then 90, as at first.
void set_architecture(int architecture);

}  // namespace kvc::simt

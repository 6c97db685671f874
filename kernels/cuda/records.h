// What the host does with copies of this backend's records. Bit for bit what the kernels write, by the scalar definitions of core/codec.
#pragma once
#include "core/backend/kernel_table.h"

namespace kvc::cuda {

// Without attend, mass and finish, which run on a device.
const KernelTable& record_table();

}  // namespace kvc::cuda

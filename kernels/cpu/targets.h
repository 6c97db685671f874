// The CPU targets. Each is one translation unit (or a few) with its own compiler flags; which exist is said by macros KVC_CPU_*
// that the build sets for the units it compiles.
#pragma once
#include "core/backend/kernel_table.h"

namespace kvc {

const KernelTable* scalar_table();
const KernelTable* avx2_table();
const KernelTable* avx512_table();
const KernelTable* avx512vnni_table();
const KernelTable* neon_table();

}  // namespace kvc

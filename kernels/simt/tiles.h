// What a tensor core does with the fragments that the lanes of a warp bring: words 0 to 3 are of A, 4 and 5 of B, 6 to 9 of C and of the
// result. A unit of its own, because products are most of the emulator's time: it is optimized, and not sanitized, in every build.
#pragma once
#include "kernels/simt/machine.h"

namespace kvc::simt {

void multiply_half_tiles(WarpWords& words);    // m16n8k16 of half
void multiply_bfloat_tiles(WarpWords& words);  // m16n8k16 of bfloat16

}  // namespace kvc::simt

// What the laws of this program run on: caches on a GPU.
#include <kvc.h>

#include "tests/laws/session.h"

using namespace kvc_scripts;

namespace {

// Before any test.
[[maybe_unused]] const bool before = [] {
    device_of_scripts() = KVC_CUDA;
    smallest_head_dim() = 64;
    product_of_scripts() = 0x1p-10;  // q and p become fp16 once as they are, and once more times a scale
    kvc_laws::targets_of_laws() = {""};
    return true;
}();

}  // namespace

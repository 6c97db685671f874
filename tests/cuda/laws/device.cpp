// What the laws of this program run on: caches on the emulated CUDA device, whose work runs late.
#include <kvc.h>
#include <utility>

#include "kernels/cuda/runtime.h"
#include "kernels/simt/fake_device.h"
#include "tests/laws/session.h"

using namespace kvc_scripts;

namespace {

// Before any test.
[[maybe_unused]] const bool before = [] {
    device_of_scripts() = KVC_CUDA;
    smallest_head_dim() = 64;
    product_of_scripts() = 0x1p-10;  // q and p become fp16 once as they are, and once more times a scale
    kvc_laws::targets_of_laws() = {""};
    kvc::simt::FakeDevice::get().set_order(1);
    // Not the device that caches are on, so that a call which forgets to select it is noticed.
    return kvc::cuda::runtime::select(1).ok();
}();

}  // namespace

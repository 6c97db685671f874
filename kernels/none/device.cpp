// In builds without a backend that has memory of its own: there is no device, and this says why.
#include "core/backend/device.h"

namespace kvc {
namespace {

Status no_backend() {
    return fail(Code::unsupported,
                "no device: this build of kvc has no backend for one (no CUDA toolkit that can build it was found, or KVC_CUDA=OFF)");
}

}  // namespace

Result<int64_t> device_count() { return no_backend(); }

Result<std::string> device_name(int64_t) { return no_backend(); }

const char* device_build() { return "no cuda"; }

Result<std::shared_ptr<Device>> open_device(int64_t, DeviceHeap, const MemorySource&) { return no_backend(); }

}  // namespace kvc

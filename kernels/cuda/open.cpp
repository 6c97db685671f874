// The devices that this build offers.
#include "kernels/cuda/device.h"

namespace kvc {

Result<int64_t> device_count() {
    const Result<int> count = cuda::runtime::device_count();
    if (!count.ok()) {
        return fail(Code::unsupported, "no CUDA device: ", count.status().message);
    }
    return *count;
}

Result<std::shared_ptr<Device>> open_device(int64_t ordinal, DeviceHeap heap) {
    const Result<int64_t> count = device_count();
    if (!count.ok()) {
        return count.status();
    }
    if (ordinal < 0 || ordinal >= *count) {
        return fail(Code::argument, "CUDA device ", ordinal, " is out of range (devices = ", *count, ")");
    }
    return cuda::CudaDevice::open(int(ordinal), heap);
}

}  // namespace kvc

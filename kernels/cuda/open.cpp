// The devices that this build offers.
#include "kernels/cuda/device.h"

namespace kvc {
namespace {

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

// What is wrong and what to do about it: the runtime has the same words for no driver as for one that is too old.
std::string absence(const Status& found) {
    const cuda::runtime::Versions versions = cuda::runtime::versions();
    if (versions.driver == 0) {
        return "no NVIDIA driver was found; install one, or give this container the host's, until nvidia-smi answers";
    }
    if (found.code == Code::unsupported) {
        return "the NVIDIA driver serves CUDA " + version_text(versions.driver) + " at most and this build of kvc needs " +
               version_text(versions.runtime) + "; update the driver";
    }
    return "the NVIDIA driver shows none; see what nvidia-smi and CUDA_VISIBLE_DEVICES say";
}

// The device that there must be.
Result<int> known(int64_t ordinal) {
    const Result<int64_t> count = device_count();
    if (!count.ok()) {
        return count.status();
    }
    if (ordinal < 0 || ordinal >= *count) {
        return fail(Code::argument, "CUDA device ", ordinal, " is out of range (devices = ", *count, ")");
    }
    return int(ordinal);
}

}  // namespace

Result<int64_t> device_count() {
    const Result<int> count = cuda::runtime::device_count();
    if (!count.ok()) {
        return fail(Code::unsupported, "no CUDA device: ", absence(count.status()), " (", count.status().message, ")");
    }
    return *count;
}

const char* device_build() {
#if defined(KVC_CUDA_BUILD)
    return KVC_CUDA_BUILD;
#else
    return "cuda emulated";
#endif
}

Result<std::shared_ptr<Device>> open_device(int64_t ordinal, DeviceHeap heap, const MemorySource& source) {
    const Result<int> device = known(ordinal);
    return device.ok() ? cuda::CudaDevice::open(*device, heap, source) : device.status();
}

Result<std::string> device_name(int64_t ordinal) {
    const Result<int> device = known(ordinal);
    if (!device.ok()) {
        return device.status();
    }
    const Result<cuda::runtime::Properties> found = cuda::runtime::properties(*device);
    return found.ok() ? Result<std::string>(found->name) : found.status();
}

}  // namespace kvc

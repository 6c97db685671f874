// The devices of this program: plain ones, ordinal i with the kernels of the CPU's table i.
#include <kvc.h>
#include <utility>

#include "tests/model/replay.h"
#include "tests/reference/plain_device.h"

namespace kvc {

Result<int64_t> device_count() { return int64_t{kernel_table_count()}; }

Result<std::string> device_name(int64_t ordinal) {
    if (ordinal < 0 || ordinal >= kernel_table_count()) return fail(Code::argument, "no device ", ordinal);
    return std::string(kvc_plain::open_plain_device(ordinal)->name());
}

const char* device_build() { return "plain devices"; }

Result<std::shared_ptr<Device>> open_device(int64_t ordinal, DeviceHeap heap, const MemorySource&) {
    if (heap != DeviceHeap::direct) return fail(Code::unsupported, "device ", ordinal, " has its own memory alone");
    if (ordinal >= kernel_table_count()) return fail(Code::unsupported, "no device ", ordinal);
    return std::shared_ptr<Device>(kvc_plain::open_plain_device(ordinal));
}

}  // namespace kvc

namespace {

// Before any test: scripts make their caches on a device.
[[maybe_unused]] const int32_t before = std::exchange(kvc_scripts::device_of_scripts(), KVC_CUDA);

}  // namespace

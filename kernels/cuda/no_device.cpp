// In place of open.cpp in a build without CUDA.
#include "core/backend/device.h"

namespace kvc {
namespace {

Status without_cuda() { return fail(Code::unsupported, "no CUDA device: this library was built without CUDA (KVC_CUDA)"); }

}  // namespace

Result<int64_t> device_count() { return without_cuda(); }
Result<std::shared_ptr<Device>> open_device(int64_t) { return without_cuda(); }

}  // namespace kvc

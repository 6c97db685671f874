// Devices, waiting for them, and memory of theirs for callers.
#include "core/backend/device.h"

#include "capi/handles.h"
#include "capi/text.h"

namespace kvc {
namespace {

Status check_kind(const char* what, int32_t device) {
    if (device == KVC_CPU || device == KVC_CUDA) return {};
    return fail(Code::argument, what, ": device ", int64_t(device), " is neither KVC_CPU nor KVC_CUDA");
}

Result<bool> read_pinned(const char* what, int32_t kind) {
    if (kind == KVC_BUFFER_DEVICE || kind == KVC_BUFFER_PINNED) return kind == KVC_BUFFER_PINNED;
    return fail(Code::argument, what, ": kind ", int64_t(kind), " is neither KVC_BUFFER_DEVICE nor KVC_BUFFER_PINNED");
}

}  // namespace
}  // namespace kvc

using namespace kvc;

int64_t kvc_device_count(int32_t device, kvc_error* err) {
    return guard_value<int64_t>(err, 0, [&]() -> Result<int64_t> {
        KVC_TRY(check_kind("device_count", device));
        return device == KVC_CPU ? Result<int64_t>(1) : device_count();
    });
}

int64_t kvc_device_describe(int32_t device, int64_t ordinal, char* out, int64_t out_bytes, kvc_error* err) {
    return guard_value<int64_t>(err, 0, [&]() -> Result<int64_t> {
        KVC_TRY(check_kind("device_describe", device));
        if (device == KVC_CPU && ordinal != 0)
            return fail(Code::argument, "device_describe: ordinal ", ordinal, " is out of range (0 .. 0)");
        if (device == KVC_CPU) return copy_text(kernel_table(0)->name, out, out_bytes);
        Result<std::string> name = device_name(ordinal);
        if (!name.ok()) return name.status();
        return copy_text(name->c_str(), out, out_bytes);
    });
}

kvc_status kvc_synchronize(kvc_cache* cache, kvc_error* err) {
    return with_cache("synchronize", cache, err, [&](Cache& c) { return c.synchronize(); });
}

void* kvc_buffer_create(kvc_cache* cache, int32_t kind, int64_t bytes, kvc_error* err) {
    void* made = nullptr;
    with_cache("buffer_create", cache, err, [&](Cache& c) -> Status {
        Result<bool> pinned = read_pinned("buffer_create", kind);
        if (!pinned.ok()) return pinned.status();
        Result<void*> buffer = c.create_buffer(*pinned, bytes);
        if (!buffer.ok()) return buffer.status();
        made = *buffer;
        return {};
    });
    return made;
}

kvc_status kvc_buffer_destroy(kvc_cache* cache, int32_t kind, void* buffer, kvc_error* err) {
    return with_cache("buffer_destroy", cache, err, [&](Cache& c) -> Status {
        Result<bool> pinned = read_pinned("buffer_destroy", kind);
        return pinned.ok() ? c.destroy_buffer(*pinned, buffer) : pinned.status();
    });
}

kvc_status kvc_buffer_copy(kvc_cache* cache, void* to, int32_t to_device, const void* from, int32_t from_device, int64_t bytes,
                           kvc_error* err) {
    return with_cache("buffer_copy", cache, err, [&](Cache& c) -> Status {
        KVC_TRY(check_kind("buffer_copy", to_device));
        KVC_TRY(check_kind("buffer_copy", from_device));
        if (bytes < 0 || (bytes > 0 && (!to || !from))) return fail(Code::argument, "buffer_copy: ", bytes, " bytes, or a NULL");
        return c.copy_buffer(to, to_device == KVC_CUDA, from, from_device == KVC_CUDA, bytes);
    });
}

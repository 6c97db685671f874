// Memory of a cache's device for callers that have no library of the device's own.
#include "core/cache/cache.h"

namespace kvc {
namespace {

Status no_device(const char* what) { return fail(Code::unsupported, what, ": the cache is on the host"); }

Status named_memory(const char* side, const Status& checked) {
    return checked.code == Code::argument ? fail(Code::argument, "buffer_copy: ", side, " ", checked.message) : checked;
}

}  // namespace

Result<void*> Cache::create_buffer(bool pinned, int64_t bytes) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    if (!device_) return no_device("buffer_create");
    if (bytes <= 0) return fail(Code::argument, "buffer_create: ", bytes, " bytes");
    buffers_.reserve(buffers_.size() + 1);
    void* const made = pinned ? device_->allocate_pinned(bytes) : device_->allocate_for_caller(bytes);
    if (!made) return fail(Code::no_memory, "buffer_create: the device refused ", bytes, pinned ? " bytes of pinned memory" : " bytes");
    buffers_.emplace_back(made, pinned);
    return made;
}

void Cache::release_buffer(void* buffer, bool pinned) {
    if (pinned) {
        device_->release_pinned(buffer);
    } else {
        device_->release(static_cast<std::byte*>(buffer));
    }
}

Status Cache::destroy_buffer(bool pinned, void* buffer) {
    Result<Exclusive> lock = exclusive_for_release();
    if (!lock.ok()) return lock.status();
    if (!device_) return no_device("buffer_destroy");
    if (std::erase(buffers_, std::pair(buffer, pinned)) == 0)
        return fail(Code::argument, "buffer_destroy: not a buffer of this cache and kind");
    release_buffer(buffer, pinned);
    return {};
}

Status Cache::copy_buffer(void* to, bool to_device, const void* from, bool from_device, int64_t bytes) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    if (!device_) return no_device("buffer_copy");
    if (!to_device && !from_device && bytes > 0) return fail(Code::argument, "buffer_copy: neither side is on the device");
    if (bytes == 0) return {};
    // What a caller mistakes is no fault of the device, and must not cost the cache.
    const Status named[] = {named_memory("to", device_->check_memory(to, bytes, to_device)),
                            named_memory("from", device_->check_memory(from, bytes, from_device))};
    for (const Status& status : named) {
        KVC_TRY(arena_->answered(status));
    }
    auto* const target = static_cast<std::byte*>(to);
    auto* const source = static_cast<const std::byte*>(from);
    if (!to_device) return arena_->answered(device_->read(source, target, bytes));
    return arena_->answered(from_device ? device_->copy(source, target, bytes) : device_->write(target, source, bytes));
}

}  // namespace kvc

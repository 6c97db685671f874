// The runtime over the emulated device. It forgives less than a GPU's: copies need pinned memory and whole ranges, released memory is
// gone at once, and a call that waits is the only one after which anything is sure to have run.
#include "kernels/cuda/runtime.h"

#include <cstring>

#include "kernels/simt/fake_device.h"

namespace kvc::cuda {

struct EventHandle {
    simt::EventPointer state = std::make_shared<simt::EventState>();
};

namespace runtime {
namespace {

using simt::FakeDevice;

constexpr const char* injected = "injected failure";

FakeDevice& device() { return FakeDevice::get(); }

simt::QueuedStream* queued(Stream stream) { return static_cast<simt::QueuedStream*>(stream); }

Status status_of(const char* what, const FakeDevice::Outcome& outcome) {
    if (outcome.injected) {
        return fail(Code::device, "CUDA: ", what, ": ", injected);
    }
    return outcome.ok() ? Status{} : fail(Code::device, "CUDA: ", what, ": ", outcome.fault);
}

Status call(const char* what, const std::function<void()>& body) { return status_of(what, device().call(body)); }

// An injected failure is that there is no memory.
Result<std::byte*> allocate_block(const char* what, const std::function<std::byte*()>& allocate) {
    std::byte* block = nullptr;
    Status status = call(what, [&] {
        device().count_allocation();
        block = allocate();
    });
    if (status.ok() && block) {
        return block;
    }
    return status.ok() || status.message.ends_with(injected) ? fail(Code::no_memory, "CUDA: ", what, ": out of memory, ", injected)
                                                             : status;
}

enum class Side { device, pinned };

bool holds(Side side, const void* p, int64_t bytes) {
    const simt::DeviceMemory& memory = device().memory;
    return side == Side::device ? memory.holds(p, bytes) : memory.holds_pinned(p, bytes);
}

Status copy_bytes(const char* what, std::byte* to, Side to_side, const std::byte* from, Side from_side, int64_t bytes, Stream stream) {
    return call(what, [&] {
        if (!holds(to_side, to, bytes) || !holds(from_side, from, bytes)) {
            device().schedule.set_fault("a range that is not of the kind of memory that the copy is for");
            return;
        }
        device().schedule.queue(queued(stream), [=] { std::memcpy(to, from, size_t(bytes)); });
    });
}

}  // namespace

Result<int> device_count() {
    if (const std::string reason = device().absent(); !reason.empty()) {
        return fail(Code::device, reason);
    }
    return 1;
}

Result<Properties> properties(int) {
    Properties found = {};
    KVC_TRY(call("properties of the device", [&] { found = {"emulated", 9, 0}; }));
    return found;
}

int selected() { return 0; }
Status select(int) { return {}; }

Result<std::byte*> allocate(int64_t bytes) {
    return allocate_block("allocation", [&] { return device().memory.allocate(bytes); });
}

void release(std::byte* block) {
    device().run([&] { device().memory.release(block); });
}

Result<std::byte*> allocate_pinned(int64_t bytes) {
    return allocate_block("pinned allocation", [&] { return device().memory.allocate_pinned(bytes); });
}

void release_pinned(std::byte* block) {
    device().run([&] { device().memory.release_pinned(block); });
}

Status copy_in(std::byte* to, const std::byte* from_pinned, int64_t bytes, Stream stream) {
    return copy_bytes("copy to the device", to, Side::device, from_pinned, Side::pinned, bytes, stream);
}

Status copy_out(std::byte* to_pinned, const std::byte* from, int64_t bytes, Stream stream) {
    return copy_bytes("copy from the device", to_pinned, Side::pinned, from, Side::device, bytes, stream);
}

Status copy(std::byte* to, const std::byte* from, int64_t bytes, Stream stream) {
    return copy_bytes("copy on the device", to, Side::device, from, Side::device, bytes, stream);
}

Status fill(std::byte* to, int value, int64_t bytes, Stream stream) {
    return call("fill", [&] {
        if (!holds(Side::device, to, bytes)) {
            device().schedule.set_fault("a range that is not of the device's memory");
            return;
        }
        device().schedule.queue(queued(stream), [=] { std::memset(to, value, size_t(bytes)); });
    });
}

Result<Stream> create_stream() {
    Stream stream = nullptr;
    KVC_TRY(call("creation of a stream", [&] { stream = device().schedule.create(device().lanes(), device().lane_seed()); }));
    return stream;
}

void destroy_stream(Stream stream) {
    device().run([&] { device().schedule.destroy(queued(stream)); });
}

Status synchronize(Stream stream) {
    return call("the stream's work", [&] {
        device().count_wait();
        device().schedule.finish(queued(stream));
    });
}

Status synchronize_device() {
    return call("the device's work", [] {
        device().count_wait();
        device().schedule.finish();
    });
}

Result<Event> create_event() {
    Event event = nullptr;
    KVC_TRY(call("creation of an event", [&] { event = new EventHandle; }));
    return event;
}

void destroy_event(Event event) { delete event; }

Status record(Event event, Stream stream) {
    return call("an event", [&] { device().schedule.queue_record(queued(stream), event->state); });
}

Status wait(Stream stream, Event event) {
    return call("an event", [&] { device().schedule.queue_wait(queued(stream), event->state); });
}

Status synchronize(Event event) {
    return call("the work before an event", [&] {
        device().count_wait();
        device().schedule.finish(event->state);
    });
}

Result<bool> done(Event event) {
    bool reached = false;
    KVC_TRY(call("an event", [&] {
        device().schedule.drift();
        reached = event->state->reached >= event->state->recorded;
    }));
    return reached;
}

Status launched() { return status_of("launch", device().launched()); }

}  // namespace runtime
}  // namespace kvc::cuda

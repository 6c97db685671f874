// The runtime over emulated devices. It forgives less than a GPU's: copies need pinned memory and whole ranges, released memory is
// gone at once, a call that waits is the only one after which anything is sure to have run, and what a call names must be of the device
// that its thread has selected. Of these CUDA refuses launches and records; all else it does, after it has brought to life the device
// that was selected for nothing.
#include "kernels/cuda/runtime.h"

#include <cstdio>
#include <cstring>

#include "kernels/simt/fake_device.h"

namespace kvc::cuda {

struct EventHandle {
    int device;
    simt::EventPointer state = std::make_shared<simt::EventState>();
};

namespace runtime {
namespace {

using simt::FakeDevice;

constexpr const char* injected = "injected failure";

FakeDevice& device() { return FakeDevice::get(); }

simt::QueuedStream* queued(Stream stream) { return static_cast<simt::QueuedStream*>(stream); }

bool own(Stream stream) { return queued(stream)->device() == device().selected(); }
bool own(Event event) { return event->device == device().selected(); }

Status status_of(const char* what, const FakeDevice::Outcome& outcome) {
    if (outcome.injected) {
        return fail(Code::device, "CUDA: ", what, ": ", injected);
    }
    return outcome.ok() ? Status{} : fail(Code::device, "CUDA: ", what, ": ", outcome.fault);
}

Status call(const char* what, const std::function<void()>& body) { return status_of(what, device().call(body)); }

Status call_own(const char* what, bool own, const std::function<void()>& body) {
    if (own) {
        return call(what, body);
    }
    device().count_stray();
    return fail(Code::device, "CUDA: ", what, ": invalid resource handle");
}

// What cannot fail is done all the same, and leaves a fault.
void run_own(const char* what, bool own, const std::function<void()>& body) {
    device().run([&] {
        if (!own) {
            device().count_stray();
            device().schedule.set_fault(std::string(what) + " of another device, or of none");
        }
        body();
    });
}

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

// Pinned memory is of use to all devices.
bool holds(Side side, const void* p, int64_t bytes) {
    const bool found = side == Side::device ? device().owner(p, bytes) == device().selected() : device().owner_of_pinned(p, bytes) >= 0;
    if (!found) {
        device().count_stray();
    }
    return found;
}

Status copy_bytes(const char* what, std::byte* to, Side to_side, const std::byte* from, Side from_side, int64_t bytes, Stream stream) {
    return call_own(what, own(stream), [&] {
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
    return device().count();
}

Result<Properties> properties(int ordinal) {
    if (ordinal < 0 || ordinal >= device().count()) {
        return fail(Code::device, "CUDA: properties of the device: invalid device ordinal");
    }
    Properties found = {};
    KVC_TRY(call("properties of the device", [&] {
        found = {"", 9, 0};
        std::snprintf(found.name, sizeof found.name, "emulated %d", ordinal);
    }));
    return found;
}

int selected() { return device().selected(); }

Status select(int ordinal) {
    return device().select(ordinal) ? Status{} : fail(Code::device, "CUDA: selecting the device: invalid device ordinal");
}

Result<std::byte*> allocate(int64_t bytes) {
    return allocate_block("allocation", [&] { return device().memory(selected()).allocate(bytes); });
}

void release(std::byte* block) {
    device().run([&] {
        const int owner = device().owner(block, 0);
        run_own("release of memory", owner == selected(), [&] {
            if (owner >= 0) {
                device().memory(owner).release(block);
            }
        });
    });
}

Result<std::byte*> allocate_pinned(int64_t bytes) {
    return allocate_block("pinned allocation", [&] { return device().memory(selected()).allocate_pinned(bytes); });
}

void release_pinned(std::byte* block) {
    device().run([&] {
        const int owner = device().owner_of_pinned(block, 0);
        run_own("release of pinned memory", owner == selected(), [&] {
            if (owner >= 0) {
                device().memory(owner).release_pinned(block);
            }
        });
    });
}

Status copy_in(std::byte* to, const std::byte* from_pinned, int64_t bytes, Stream stream) {
    return copy_bytes("copy to the device", to, Side::device, from_pinned, Side::pinned, bytes, stream);
}

Status copy_out(std::byte* to_pinned, const std::byte* from, int64_t bytes, Stream stream) {
    device().run([] { device().count_copy_out(); });
    return copy_bytes("copy from the device", to_pinned, Side::pinned, from, Side::device, bytes, stream);
}

Status copy(std::byte* to, const std::byte* from, int64_t bytes, Stream stream) {
    return copy_bytes("copy on the device", to, Side::device, from, Side::device, bytes, stream);
}

Status fill(std::byte* to, int value, int64_t bytes, Stream stream) {
    return call_own("fill", own(stream), [&] {
        if (!holds(Side::device, to, bytes)) {
            device().schedule.set_fault("a range that is not of the device's memory");
            return;
        }
        device().schedule.queue(queued(stream), [=] { std::memset(to, value, size_t(bytes)); });
    });
}

Result<Stream> create_stream() {
    Stream stream = nullptr;
    KVC_TRY(
        call("creation of a stream", [&] { stream = device().schedule.create(selected(), device().lanes(), device().lane_seed()); }));
    return stream;
}

Result<int> device_of(Stream stream) { return queued(stream)->device(); }

void destroy_stream(Stream stream) {
    run_own("destruction of a stream", own(stream), [&] { device().schedule.destroy(queued(stream)); });
}

Status synchronize(Stream stream) {
    return call_own("the stream's work", own(stream), [&] {
        device().count_wait();
        device().schedule.finish(queued(stream));
    });
}

Status synchronize_device() {
    return call("the device's work", [] {
        device().count_wait();
        device().schedule.finish(selected());
    });
}

Result<Event> create_event() {
    Event event = nullptr;
    KVC_TRY(call("creation of an event", [&] { event = new EventHandle{selected()}; }));
    return event;
}

void destroy_event(Event event) {
    run_own("destruction of an event", own(event), [&] { delete event; });
}

Status record(Event event, Stream stream) {
    return call_own("an event", own(event) && own(stream), [&] { device().schedule.queue_record(queued(stream), event->state); });
}

Status wait(Stream stream, Event event) {
    return call_own("an event", own(stream), [&] { device().schedule.queue_wait(queued(stream), event->state); });
}

Status synchronize(Event event) {
    return call_own("the work before an event", own(event), [&] {
        device().count_wait();
        device().schedule.finish(event->state);
    });
}

Result<bool> done(Event event) {
    bool reached = false;
    KVC_TRY(call_own("an event", own(event), [&] {
        device().schedule.drift();
        reached = event->state->reached >= event->state->recorded;
    }));
    return reached;
}

Status launched() { return status_of("launch", device().launched()); }

}  // namespace runtime
}  // namespace kvc::cuda

// The runtime over emulated devices. It forgives less than a GPU's: copies need pinned memory and whole ranges, released memory is
// gone at once, a call that waits is the only one after which anything is sure to have run, and what a call names must be of the device
// that its thread has selected. Of these CUDA refuses launches and records; all else it does, after it has brought to life the device
// that was selected for nothing.
#include "kernels/cuda/runtime.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/simt/fake_device.h"

namespace kvc::cuda {

struct EventHandle {
    int device;
    simt::EventPointer state = std::make_shared<simt::EventState>();
};

struct CapturedHandle {
    int device;
    simt::Captured work;
};

struct PoolHandle {
    int device;
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

constexpr const char* capturing = "operation not permitted when stream is capturing";

// What CUDA forbids while a stream is captured: to all threads, or fewer (capture_mode.h). touched: a stream that must not be captured.
Status call_outside_captures(const char* what, bool own, const std::function<void()>& body, Stream touched = nullptr) {
    return device().forbidden(queued(touched)) ? fail(Code::capture, "CUDA: ", what, ": ", capturing) : call_own(what, own, body);
}

// Forks of a capture are not emulated, and kvc has none.
Status call_with_event(const char* what, Stream stream, bool own, const std::function<void()>& body) {
    return device().schedule.is_capturing(queued(stream)) ? call_outside_captures(what, own, body, stream) : call_own(what, own, body);
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
    Status status = call_outside_captures(what, true, [&] {
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

// Work that touches these addresses: of a pool's memory, only once a stream has given it.
void queue_access(Stream stream, std::vector<const std::byte*> touched, std::function<void()> work) {
    const simt::DeviceMemory& memory = device().memory(selected());
    device().schedule.queue(queued(stream), [&memory, touched = std::move(touched), work = std::move(work)] {
        for (const std::byte* p : touched) {
            if (memory.is_coming(p)) {
                device().schedule.set_fault("memory that its pool has not given yet");
                return;
            }
        }
        work();
    });
}

Status copy_bytes(const char* what, std::byte* to, Side to_side, const std::byte* from, Side from_side, int64_t bytes, Stream stream) {
    return call_own(what, own(stream), [&] {
        if (!holds(to_side, to, bytes) || !holds(from_side, from, bytes)) {
            device().schedule.set_fault("a range that is not of the kind of memory that the copy is for");
            return;
        }
        queue_access(stream, {to, from}, [=] { std::memcpy(to, from, size_t(bytes)); });
    });
}

}  // namespace

Versions versions() { return {device().driver(), 13000}; }

Result<int> device_count() {
    if (const std::string reason = device().absent(); !reason.empty()) {
        return fail(versions().driver < versions().runtime ? Code::unsupported : Code::device, reason);
    }
    return device().count();
}

Result<Properties> properties(int ordinal) {
    if (ordinal < 0 || ordinal >= device().count()) {
        return fail(Code::device, "CUDA: properties of the device: invalid device ordinal");
    }
    Properties found = {};
    KVC_TRY(call("properties of the device", [&] {
        const int architecture = device().architecture();
        found = {"", architecture / 10, architecture % 10, simt::block_shared_limit(architecture)};
        std::snprintf(found.name, sizeof found.name, "emulated %d", ordinal);
    }));
    return found;
}

Result<int> code_of(const void*) {
    int code = 0;
    KVC_TRY(call("code for the device", [&] { code = device().code(); }));
    return code ? Result<int>(code) : fail(Code::unsupported, "no kernel image is available for execution on the device");
}

Result<Place> place_of(const void* p) {
    Place found = {Owner::host, -1};
    KVC_TRY(call("whose memory an address is of", [&] {
        if (device().is_managed(p)) {
            found.owner = Owner::all;
        } else if (const int owner = device().owner(p, 1); owner >= 0) {
            found = {Owner::device, owner};
        }
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
        (void)device().forbidden();
        const int owner = device().owner(block, 0);
        run_own("release of memory", owner == selected(), [&] {
            if (owner >= 0) {
                device().memory(owner).release(block);
            }
        });
    });
}

Result<bool> has_pools(int) {
    bool has = false;
    KVC_TRY(call("whether the device has memory pools", [&] { has = device().has_pools(); }));
    return has;
}

// One for each device, like the driver's.
Result<Pool> default_pool(int ordinal) {
    static std::array<PoolHandle, 8> pools = {{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}}};
    Pool pool = nullptr;
    KVC_TRY(call("the device's memory pool", [&] { pool = &pools[size_t(ordinal)]; }));
    return pool;
}

Result<Pool> create_pool(int ordinal) {
    Pool pool = nullptr;
    KVC_TRY(call("creation of a memory pool", [&] {
        device().count_pool(1);
        pool = new PoolHandle{ordinal};
    }));
    return pool;
}

void destroy_pool(Pool pool) {
    device().run([&] {
        device().count_pool(-1);
        delete pool;
    });
}

Result<std::byte*> allocate_in(Pool pool, int64_t bytes, Stream stream) {
    const int at = queued(stream)->device();
    if (!own(stream) || pool->device != at) {
        device().count_stray();
        return fail(Code::device, "CUDA: allocation in a pool: invalid resource handle");
    }
    return allocate_block("allocation in a pool", [&] {
        std::byte* const block = device().memory(at).allocate_later(bytes);
        if (block) {
            device().schedule.queue(queued(stream), [=] { device().memory(at).give(block); });
        }
        return block;
    });
}

void release_in(std::byte* block, Stream stream) {
    device().run([&] {
        const int owner = device().owner(block, 0);
        run_own("release of memory", own(stream) && owner == selected(), [&] {
            if (owner < 0) {
                return;
            }
            if (device().schedule.fault()) {
                device().memory(owner).release(block);  // no stream comes anywhere any more
                return;
            }
            device().memory(owner).part_with(block);
            device().schedule.queue(queued(stream), [=] { device().memory(owner).release(block); });
        });
    });
}

Status trim(Pool pool) {
    return call_own("what a memory pool keeps", pool->device == selected(), [] {});
}

Result<std::byte*> allocate_pinned(int64_t bytes) {
    return allocate_block("pinned allocation", [&] { return device().memory(selected()).allocate_pinned(bytes); });
}

void release_pinned(std::byte* block) {
    device().run([&] {
        (void)device().forbidden();
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
    device().run([&] { device().count_copy_out(bytes); });
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
        queue_access(stream, {to}, [=] { std::memset(to, value, size_t(bytes)); });
    });
}

Result<Stream> create_stream() {
    Stream stream = nullptr;
    KVC_TRY(call("creation of a stream", [&] {
        stream = device().schedule.create(selected(), device().lanes(), device().lane_seed());
        stream->set_architecture(device().code(), device().architecture());
    }));
    return stream;
}

Result<int> device_of(Stream stream) { return queued(stream)->device(); }

void destroy_stream(Stream stream) {
    run_own("destruction of a stream", own(stream), [&] { device().schedule.destroy(queued(stream)); });
}

Status synchronize(Stream stream) {
    return call_outside_captures(
        "the stream's work", own(stream),
        [&] {
            device().count_wait();
            device().schedule.finish(queued(stream));
        },
        stream);
}

Status synchronize_device() {
    return call_outside_captures("the device's work", true, [] {
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
    return call_with_event("an event", stream, own(event) && own(stream),
                           [&] { device().schedule.queue_record(queued(stream), event->state); });
}

Status wait(Stream stream, Event event) {
    return call_with_event("an event", stream, own(stream), [&] { device().schedule.queue_wait(queued(stream), event->state); });
}

Status synchronize(Event event) {
    return call_outside_captures("the work before an event", own(event), [&] {
        device().count_wait();
        device().schedule.finish(event->state);
    });
}

Result<bool> done(Event event) {
    bool reached = false;
    KVC_TRY(call_outside_captures("an event", own(event), [&] {
        device().schedule.drift();
        reached = event->state->reached >= event->state->recorded;
    }));
    return reached;
}

Result<bool> is_capturing(Stream stream) {
    bool found = false, unusable = false;
    device().run([&] {
        found = device().schedule.is_capturing(queued(stream));
        unusable = device().schedule.is_unusable(queued(stream));
    });
    return unusable ? Result<bool>(fail(Code::capture,
                                        "CUDA: whether a stream is captured: operation would make the legacy stream depend on "
                                        "a capturing blocking stream"))
                    : Result<bool>(found);
}

Result<CaptureMode> exchange_capture_mode(CaptureMode mode) { return FakeDevice::exchange_capture_mode(mode); }

Status begin_capture(Stream stream, CaptureMode mode) {
    return call_own("begin of a capture", own(stream) && !device().schedule.is_capturing(queued(stream)),
                    [&] { device().schedule.begin_capture(queued(stream), mode); });
}

// An injected failure ends the capture, too.
Result<CapturedGraph> end_capture(Stream stream) {
    std::optional<simt::Captured> work;
    device().run([&] { work = device().schedule.end_capture(queued(stream)); });
    KVC_TRY(call_own("end of a capture", own(stream), [] {}));
    return work ? Result<CapturedGraph>(new CapturedHandle{selected(), std::move(*work)})
                : fail(Code::device, "CUDA: end of a capture: operation failed due to a previous error during capture");
}

Status launch(CapturedGraph graph, Stream stream) {
    return call_own("launch of a graph", own(stream) && graph->device == device().selected(), [&] {
        for (const std::function<void()>& work : graph->work) {
            device().schedule.queue(queued(stream), work);
        }
    });
}

void destroy_graph(CapturedGraph graph) { delete graph; }

Status launched() { return status_of("launch", device().launched()); }

}  // namespace runtime
}  // namespace kvc::cuda

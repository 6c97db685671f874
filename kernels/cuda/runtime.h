// What the host side asks of a CUDA runtime. runtime_cudart.cpp answers with the runtime's static library, kernels/simt/runtime.cpp
// with an emulation for tests; a program links one of them.
//
// A call works on the device that its thread has selected, and what it names is of that device; but wait takes events of others, and
// pinned memory is of use to all. What a call queues reads its pinned memory when its stream comes to it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/base/status.h"
#include "kernels/cuda/capture_mode.h"
#include "kernels/cuda/stream.h"

namespace kvc::cuda {

struct EventHandle;
using Event = EventHandle*;
struct CapturedHandle;
using CapturedGraph = CapturedHandle*;
struct PoolHandle;
using Pool = PoolHandle*;

namespace runtime {

struct Properties {
    char name[256];
    int major, minor;  // compute capability
    int block_shared;  // bytes that a block may have, static and dynamic
};

// As CUDA counts them: 1000 * major + 10 * minor. Of the driver, the newest CUDA that it serves; 0: there is no driver.
struct Versions {
    int driver, runtime;
};
Versions versions();
// At least 1. Fails with the runtime's reason where there is none; Code::unsupported: no driver, or one older than the runtime.
Result<int> device_count();
Result<Properties> properties(int ordinal);
// The architecture that the build's code of that kernel is written for which the selected device and its driver would run, 90 as in sm_90;
// of PTX its own, not the device's. Code::unsupported, and the runtime's reason: it has none.
Result<int> code_of(const void* kernel);
// The device that the calling thread has selected; -1 if that cannot be said.
int selected();
Status select(int ordinal);

// Whose memory an address is of. What the runtime has not heard of is the host's. Allowed while a stream is captured.
enum class Owner { host, device, all };  // all: managed memory, of use to the host and to every device
struct Place {
    Owner owner;
    int ordinal;  // of Owner::device
};
Result<Place> place_of(const void* p);

// At addresses that are multiples of 256. Code::no_memory: refused.
Result<std::byte*> allocate(int64_t bytes);
void release(std::byte* block);
// ---- pools: memory that is given and taken back in the order of streams ----
Result<bool> has_pools(int ordinal);
// The one of all who use the device; how much of it stays with the driver's pool is the program's to say.
Result<Pool> default_pool(int ordinal);
// One that keeps whatever comes back, for later allocations.
Result<Pool> create_pool(int ordinal);
void destroy_pool(Pool pool);
// Of use to what the stream runs from now on, and to other streams that wait for it here. Otherwise as allocate.
Result<std::byte*> allocate_in(Pool pool, int64_t bytes, Stream stream);
// Behind what the stream holds. release() takes such a block, too, at once: whoever calls it has waited for all who use it.
void release_in(std::byte* block, Stream stream);
Status trim(Pool pool);  // gives what nobody uses back to the driver

// Host memory that copies may use.
Result<std::byte*> allocate_pinned(int64_t bytes);
void release_pinned(std::byte* block);

Status copy_in(std::byte* to, const std::byte* from_pinned, int64_t bytes, Stream stream);
Status copy_out(std::byte* to_pinned, const std::byte* from, int64_t bytes, Stream stream);
Status copy(std::byte* to, const std::byte* from, int64_t bytes, Stream stream);
Status fill(std::byte* to, int value, int64_t bytes, Stream stream);

// Streams of this backend do not wait for the default stream.
Result<Stream> create_stream();
Result<int> device_of(Stream stream);
void destroy_stream(Stream stream);  // what it still holds is done first
Status synchronize(Stream stream);
Status synchronize_device();

// An event stands for what its stream held when it was last recorded; for one that never was, nobody waits.
Result<Event> create_event();
void destroy_event(Event event);
Status record(Event event, Stream stream);
Status wait(Stream stream, Event event);  // the stream waits, the host does not
Status synchronize(Event event);
Result<bool> done(Event event);

// Whether what is queued on the stream is recorded into a caller's graph instead. Code::capture, of this and of all calls: a capture forbids
// them. So is the legacy default stream's, while a stream that waits for it is captured.
Result<bool> is_capturing(Stream stream);
// The calling thread's mode, global at first, and what it was. Needs no selected device.
Result<CaptureMode> exchange_capture_mode(CaptureMode mode);
// What callers do with their graphs, for tests.
Status begin_capture(Stream stream, CaptureMode mode = CaptureMode::global);
Result<CapturedGraph> end_capture(Stream stream);
Status launch(CapturedGraph graph, Stream stream);
void destroy_graph(CapturedGraph graph);

// What went wrong with launches of this thread since the last call; what kernels do wrong shows when their stream is synchronized.
Status launched();

}  // namespace runtime
}  // namespace kvc::cuda

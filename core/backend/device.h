// A backend with memory of its own (a GPU). Control stays with core: page tables, reservations, decisions. Records, partial results
// and, if a step says so, callers' buffers lie in the device's memory, which the host never dereferences.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/backend/executor.h"
#include "core/backend/fold.h"
#include "core/backend/recode.h"
#include "core/base/memory_source.h"

namespace kvc {

// A job of an earlier store had a token that cannot be stored (what its slot holds then, kernels must survive): the job's tag, and
// the first such token's number, first_token included.
struct BadStore {
    int64_t tag, token;
};

struct DeviceStep {
    void* stream = nullptr;       // the caller's, as the device's own interface names it; nullptr: one of the device's
    bool device_buffers = false;  // k, v, q, out and lse lie in device memory
    // Slabs 0 .. slab_count - 1 of the arena, addresses in device memory in an array of the host's. Only those that are named here are
    // used by the step; entries never change once they are there, and slab 0 is nullptr.
    std::byte* const* slabs = nullptr;
    int64_t slab_count = 0;
    // The most that one call of the step brings, so that later calls allocate nothing.
    int64_t store_jobs = 0, quantize_jobs = 0, items = 0, tiles = 0;
    int64_t entries = 0, counts = 0;  // of all items' tables, each as often as it is named
    int64_t kept_entries = 0;         // of a step with lse: those of them that have a record
    int64_t state_floats = 0, lse_floats = 0, page_sums = 0;
    int64_t in_bytes = 0, out_bytes = 0;  // of host buffers of one call, each padded by 256

    // The most that all calls of the step bring together, if each layer is appended and attended once: so that the host can run whole
    // steps ahead of the device.
    struct Whole {
        int64_t calls = 0;  // of an executor's functions
        int64_t store_jobs = 0, quantize_jobs = 0, items = 0, tiles = 0, entries = 0, counts = 0;
    } whole;
};

// It may be destroyed before what it launched has run; what that needs stays until then.
class DeviceExecutor : public Executor {
public:
    // Device memory of the step, as large as DeviceStep said.
    virtual float* states() = 0;
    virtual float* lse() = 0;
    virtual PageSum* page_sums() = 0;
    // Code::capture: not now, since a caller has begun to capture the step's stream. An executor that goes all the same costs the device.
    virtual Status may_end() { return {}; }
};

// The most that one call for a layer of a graph brings.
struct GraphLayer {
    int64_t store_jobs = 0, quantize_jobs = 0;
    int64_t tiles = 0, items = 0;  // items of each rung
    int64_t rungs = 1;
    int64_t tokens = 0;   // of a tile, or of a store job
    int64_t entries = 0;  // of all items' tables
    int64_t q_heads = 0, rope_pairs = 0;
};

struct GraphShape {
    std::vector<GraphLayer> layers;
    int64_t attends = 0;       // in one step, of any layers
    int64_t state_floats = 0;  // of one call
    int64_t slabs = 0;         // as in DeviceStep
    int64_t slots = 0;         // replays whose tables may be on their way at a time
};

// Runs no launch: it records what a caller's graph is to hold, or writes the tables that the graph's launches read.
class GraphExecutor : public DeviceExecutor {
public:
    // Behind the last call. Of a recording: replays have this layout from now on. Of a replay: its tables are on their way.
    virtual Status seal() = 0;
};

// Launches of a step that a caller holds as a graph of the device's own, and the memory that they read. Replays make the same calls in
// the same order as the recording did, with the same buffers.
class DeviceGraph {
public:
    virtual ~DeviceGraph() = default;
    // Whether what is put on the stream is recorded instead of run.
    virtual Result<bool> is_capturing(void* stream) = 0;
    // Whether there is a free slot for a replay's tables. Never waits.
    virtual Result<bool> ready() = 0;
    // On a stream that is being captured. A call has one job of each kind that it can bring, and of each rung one item, whatever they
    // hold: it becomes launches with as many jobs as GraphShape says.
    virtual Result<std::unique_ptr<GraphExecutor>> record(void* stream) = 0;
    // On a stream that is not, where the graph is launched once before the executor goes. Only one at a time, and only if ready.
    // Code::capture of its calls: they bring more than GraphShape said.
    virtual Result<std::unique_ptr<GraphExecutor>> replay(const DeviceStep& step) = 0;
};

// One cache's; several may be open on one piece of hardware. Its functions, and those of different executors, may be called by several threads at once.
class Device {
public:
    virtual ~Device() = default;
    virtual const char* name() const = 0;  // of the hardware

    // The record layouts and what the host can do with copies of records: store, quantize, read, unpack, pack, unsupported. Its attend,
    // mass, page_mass and finish are nullptr.
    virtual const KernelTable& records() const = 0;

    // How often a function of the device, or of an executor of it, has waited for what was launched. Of a call that waits several times, each.
    virtual int64_t waits() const = 0;

    // ---- memory ----
    virtual std::byte* allocate(int64_t bytes) = 0;  // 256-byte aligned; nullptr: refused
    // The same for work that is not in order with the device's: waits, if need be, for what used the memory before.
    virtual std::byte* allocate_for_caller(int64_t bytes) { return allocate(bytes); }
    virtual void release(std::byte* block) = 0;  // waits for what still uses the block
    // Behind all that was launched before, by any step, and before what is launched later. write has taken `from` when it returns; read
    // waits.
    virtual Status write(std::byte* to, const std::byte* from, int64_t bytes) = 0;
    virtual Status read(const std::byte* from, std::byte* to, int64_t bytes) = 0;
    virtual Status copy(const std::byte* from, std::byte* to, int64_t bytes) = 0;
    // New code records out of others', in the same order with all else. Takes the jobs and returns; what they do wrong shows at the next
    // synchronize.
    virtual Status recode(std::span<const RecodeParams> jobs) = 0;
    // Numbers of tokens where their records lie; waits for them. All jobs have the same format and statistic. Code::no_memory: refused.
    virtual Status measure(std::span<const StatisticJob> jobs) = 0;
    // Merging: which kept token each leaving one joins; waits for the answer. Jobs of one format.
    virtual Status route(std::span<const RouteJob> jobs) = 0;
    // The means of those that come together; waits. Jobs of one format and one kind of keys.
    virtual Status fold(std::span<const FoldJob> jobs) = 0;
    // Tokens into 16-bit records, of numbers in the device's memory; in order with all else, as recode. All are saturated.
    virtual Status store(std::span<const StoreParams> jobs) = 0;
    // Waits for everything, adds the mass of living executors to its counters, and appends what stores found since the last time. Its error
    // is an asynchronous fault: from then on the device is lost and every call may fail. Code::device in all of these. Code::capture, here
    // and above: a step's stream is being captured, and nothing was done.
    virtual Status synchronize(std::vector<BadStore>* bad) = 0;

    // Whether bytes > 0 at p are the device's memory, or the host's, so far as that can be told without touching them. Code::argument: they are
    // not, and the message, which begins with a verb, says what they are. Waits for nothing.
    virtual Status check_memory(const void* p, int64_t bytes, bool on_device) = 0;

    // Memory of the host that copies to and from the device do not have to stage; nullptr: refused.
    virtual void* allocate_pinned(int64_t bytes) = 0;
    virtual void release_pinned(void* block) = 0;  // waits for what still uses the block

    // Kernels of the step run behind those of every executor that was destroyed before, whatever stream these used: records change hands
    // between steps.
    virtual Result<std::unique_ptr<DeviceExecutor>> begin(const DeviceStep& step) = 0;

    // Code::no_memory, or Code::unsupported where the backend has no graphs.
    virtual Result<std::unique_ptr<DeviceGraph>> create_graph(const GraphShape& shape) {
        (void)shape;
        return fail(Code::unsupported, "graph: ", name(), " has none");
    }
};

// Where a device's memory comes from: taken from the driver piece by piece, or from a pool that gives and takes in the order of streams.
enum class DeviceHeap {
    direct,
    shared_pool,  // the program's on that device, for all who use it
    own_pool,     // this device object's, which keeps what comes back
    callers,      // the caller's own functions, which give memory of the device
};

// Devices of the kind that this build has; the error says why there are none. The backend that is linked in defines these, or a stand-in.
Result<int64_t> device_count();
// Of one of them, whether or not it can be opened. Touches nothing of it, so that it costs no memory there. Code::argument: out of range.
Result<std::string> device_name(int64_t ordinal);
// For kvc_build_info: what this build has for them, such as a toolkit and architectures, or that it has nothing. Static.
const char* device_build();
// A new one at each call, with its own answers. Code::unsupported where the hardware has no such heap; nothing takes its place.
// source: for DeviceHeap::callers. It is called by one thread at a time, with the device selected, for all memory of the device, and gets a
// block back when nothing that was queued uses it any more; the last ones when the device ends.
Result<std::shared_ptr<Device>> open_device(int64_t ordinal, DeviceHeap heap = DeviceHeap::direct, const MemorySource& source = {});

}  // namespace kvc

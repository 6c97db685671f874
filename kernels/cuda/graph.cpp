#include "kernels/cuda/graph.h"

#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/graph_executor.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

constexpr int64_t gap = 16;  // between tables

template <class T>
Size table_of(int64_t n) {
    return Size(n) * int64_t(sizeof(T)) + gap;
}

Size append_bytes(const GraphLayer& layer) { return table_of<StoreJob>(layer.store_jobs) + table_of<QuantizeJob>(layer.quantize_jobs); }

Size attend_bytes(const GraphLayer& layer) {
    const Size items = Size(layer.items) * layer.rungs * int64_t(sizeof(AttendItem)) + gap;
    return items + table_of<double>(layer.rope_pairs) + table_of<FinishTile>(layer.tiles) + table_of<float>(layer.q_heads);
}

Size larger(Size a, Size b) { return !a.valid() || (b.valid() && a.value() >= b.value()) ? a : b; }

}  // namespace

GraphSizes GraphSizes::of(const GraphShape& shape) {
    Size appends = 0, attends = 0, entries = 0, largest = 0, most_entries = 0;
    for (const GraphLayer& layer : shape.layers) {
        appends = appends + append_bytes(layer);
        attends = attends + attend_bytes(layer);
        entries = entries + table_of<PageEntry>(layer.entries);
        largest = larger(largest, attend_bytes(layer));
        most_entries = larger(most_entries, table_of<PageEntry>(layer.entries));
    }
    if (shape.attends != int64_t(shape.layers.size())) {
        attends = largest * shape.attends;  // whatever layers they are of
        entries = most_entries * shape.attends;
    }
    return {appends + attends, entries};
}

GraphMemory::~GraphMemory() {
    for (const Event event : fetched) {
        if (event) {
            runtime::destroy_event(event);
        }
    }
}

Status GraphMemory::create(const GraphShape& shape, Waits* waits, HeapSource heap) {
    const GraphSizes sizes = GraphSizes::of(shape);
    const Size states = Size(shape.state_floats) * int64_t(sizeof(float));
    const Size all = (sizes.jobs + sizes.entries) * shape.slots + states;
    if (!all.valid()) {
        return fail(Code::no_memory, "CUDA: the tables of a graph are beyond 2^63 bytes");
    }
    jobs_capacity = round_up(sizes.jobs.value(), 256);
    entries_capacity = round_up(sizes.entries.value(), 256);
    WorkspaceSizes work;
    work.states = states.value();
    work.slabs = shape.slabs * int64_t(sizeof(std::byte*));
    KVC_TRY(workspace.create(work, waits, heap));
    KVC_TRY(tables.allocate("the tables of a graph", jobs_capacity + entries_capacity, heap));
    KVC_TRY(slots.allocate("the tables of a graph (pinned memory of the host)", shape.slots * (jobs_capacity + entries_capacity)));
    fetched.resize(size_t(shape.slots));
    for (Event& event : fetched) {
        const Result<Event> created = runtime::create_event();
        if (!created.ok()) {
            return created.status();
        }
        event = *created;
    }
    return {};
}

CudaGraph::~CudaGraph() { device_->retire(std::move(memory_)); }

Status CudaGraph::create(Waits* waits, HeapSource heap) {
    auto memory = std::make_unique<GraphMemory>();
    KVC_TRY(memory->create(shape_, waits, heap));
    memory_ = std::move(memory);
    used_.resize(size_t(shape_.slots));
    return {};
}

Result<bool> CudaGraph::is_capturing(void* stream) {
    const OwnCall own(device_->ordinal());
    KVC_TRY(own.status());
    return runtime::is_capturing(static_cast<Stream>(stream));
}

Result<bool> CudaGraph::ready() {
    if (!used_[slot_]) {
        return true;
    }
    const OwnCall own(device_->ordinal());
    KVC_TRY(own.status());
    return runtime::done(memory_->fetched[slot_]);
}

std::byte* CudaGraph::slot() { return memory_->slots.data() + int64_t(slot_) * memory_->tables.bytes(); }

void CudaGraph::take_slot() {
    used_[slot_] = true;
    slot_ = (slot_ + 1) % used_.size();
}

Result<std::unique_ptr<GraphExecutor>> CudaGraph::record(void* stream) {
    KVC_TRY(device_->check_usable());
    return std::unique_ptr<GraphExecutor>(std::make_unique<GraphRecorder>(*this, static_cast<Stream>(stream), device_->ordinal()));
}

Result<std::unique_ptr<GraphExecutor>> CudaGraph::replay(const DeviceStep& step) {
    const OwnCall own(device_->ordinal());
    KVC_TRY(own.status());
    return device_->begin_replay(step, *this);
}

}  // namespace kvc::cuda

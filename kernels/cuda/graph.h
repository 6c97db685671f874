// A graph's memory on the device and for it. Launches are captured with addresses in one fixed block of tables; what the tables hold
// is written to a slot of pinned memory for each replay, and copied there before the graph is launched.
#pragma once
#include <memory>
#include <vector>

#include "core/backend/device.h"
#include "core/base/size.h"
#include "kernels/cuda/workspace.h"

namespace kvc::cuda {

class CudaDevice;

// The block: jobs of all calls, each table at the same place in every replay, and behind them the tables that items point to.
struct GraphSizes {
    Size jobs, entries;  // bytes

    static GraphSizes of(const GraphShape& shape);
};

// Outlives the graph until nobody can read it any more.
struct GraphMemory {
    ~GraphMemory();
    Status create(const GraphShape& shape, Waits* waits, HeapSource heap);

    Workspace workspace;  // partial results, the table of slabs
    DeviceBlock tables;
    PinnedBlock slots;           // one behind the other, each as large as the tables
    std::vector<Event> fetched;  // of each slot: its last copy
    int64_t jobs_capacity = 0, entries_capacity = 0;
};

class CudaGraph final : public DeviceGraph {
public:
    CudaGraph(std::shared_ptr<CudaDevice> device, const GraphShape& shape) : device_(std::move(device)), shape_(shape) {}
    ~CudaGraph() override;
    // With the device selected and locked.
    Status create(Waits* waits, HeapSource heap);

    Result<bool> is_capturing(void* stream) override;
    Result<bool> ready() override;
    Result<std::unique_ptr<GraphExecutor>> record(void* stream) override;
    Result<std::unique_ptr<GraphExecutor>> replay(const DeviceStep& step) override;

    // ---- for its executors ----
    const GraphShape& shape() const { return shape_; }
    GraphMemory& memory() { return *memory_; }
    // Bytes of jobs in the recorded layout.
    int64_t jobs_bytes() const { return jobs_bytes_; }
    void set_layout(int64_t jobs_bytes) { jobs_bytes_ = jobs_bytes; }
    // The next replay's.
    std::byte* slot();
    Event slot_event() { return memory_->fetched[slot_]; }
    // Its copy is queued.
    void take_slot();

private:
    const std::shared_ptr<CudaDevice> device_;
    const GraphShape shape_;
    std::unique_ptr<GraphMemory> memory_;
    int64_t jobs_bytes_ = 0;
    size_t slot_ = 0;
    std::vector<bool> used_;  // per slot: its event stands for a copy
};

}  // namespace kvc::cuda

// A CUDA device: memory, its order with steps on other streams, and the workspaces of steps.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/backend/device.h"
#include "kernels/cuda/call_room.h"
#include "kernels/cuda/executor.h"
#include "kernels/cuda/graph.h"

namespace kvc::cuda {

// Selects the device for the calling thread as long as it lives, and then what was selected before.
class Selection {
public:
    explicit Selection(int ordinal);
    ~Selection();
    Selection(const Selection&) = delete;
    Selection& operator=(const Selection&) = delete;
    const Status& status() const { return status_; }

private:
    int before_, now_;
    Status status_;
};

// Around whatever kvc asks of the runtime: the device is selected, and captures of callers' streams, by whichever thread, neither forbid it
// nor are spoiled by it.
class OwnCall {
public:
    explicit OwnCall(int ordinal);
    ~OwnCall();
    OwnCall(const OwnCall&) = delete;
    OwnCall& operator=(const OwnCall&) = delete;
    const Status& status() const { return status_; }

private:
    const Selection selection_;
    CaptureMode before_ = CaptureMode::relaxed;
    Status status_;
};

class CudaDevice final : public Device, public std::enable_shared_from_this<CudaDevice> {
public:
    static Result<std::shared_ptr<Device>> open(int ordinal, DeviceHeap heap, const MemorySource& source);
    ~CudaDevice() override;

    const char* name() const override { return name_.c_str(); }
    const KernelTable& records() const override;
    int64_t waits() const override { return waits_.count(); }

    std::byte* allocate(int64_t bytes) override;
    std::byte* allocate_for_caller(int64_t bytes) override;
    void release(std::byte* block) override;
    Status write(std::byte* to, const std::byte* from, int64_t bytes) override;
    Status read(const std::byte* from, std::byte* to, int64_t bytes) override;
    Status copy(const std::byte* from, std::byte* to, int64_t bytes) override;
    Status recode(std::span<const RecodeParams> jobs) override;   // device_recode.cpp
    Status measure(std::span<const StatisticJob> jobs) override;  // device_measure.cpp
    Status route(std::span<const RouteJob> jobs) override;        // device_merge.cpp
    Status fold(std::span<const FoldJob> jobs) override;
    Status store(std::span<const StoreParams> jobs) override;
    Status synchronize(std::vector<BadStore>* bad) override;
    Status check_memory(const void* p, int64_t bytes, bool on_device) override;
    void* allocate_pinned(int64_t bytes) override;
    void release_pinned(void* block) override;
    Result<std::unique_ptr<DeviceExecutor>> begin(const DeviceStep& step) override;
    Result<std::unique_ptr<DeviceGraph>> create_graph(const GraphShape& shape) override;

    // ---- for executors ----
    int ordinal() const { return ordinal_; }
    // Before an executor queues something, with the device selected: its stream waits for the device's own operations so far.
    Status order(QueuedStep& step);
    // Takes back what begin gave.
    void end(QueuedStep& step);
    // Code::capture as long as the step's stream is captured: nothing can be put there then, and nothing waited for.
    Status check_uncaptured(const QueuedStep& step) const;
    // The same, with the device selected.
    Status may_end(const QueuedStep& step) const;
    std::mutex& mutex() { return mutex_; }
    Status wait_for(Stream stream) { return waits_.for_stream(stream); }

    // ---- for graphs ----
    // A step of the graph, whose tables go to a free slot.
    Result<std::unique_ptr<GraphExecutor>> begin_replay(const DeviceStep& step, CudaGraph& graph);
    // Why the device cannot be used any more, and whether it is selected.
    Status check_usable();
    // Memory that launches in a queue may still read: until somebody has waited for all of them.
    void retire(std::unique_ptr<GraphMemory> memory);

private:
    explicit CudaDevice(int ordinal) : ordinal_(ordinal) {}
    Status create(DeviceHeap heap, const MemorySource& source);
    // Whether the build has code for the device, with it selected.
    Status check_code();
    // A step's own stream must be of this device.
    Status check_stream(Stream stream) const;

    // ---- all of these with the device locked ----
    // The device's stream waits for everything that was queued so far.
    Status gather();
    Status gather_one(QueuedStep& step);
    // What is queued from now on runs behind the device's stream as it stands.
    Status advance();
    // used: what is queued may still be at work there.
    std::byte* allocate_block(int64_t bytes, bool* used);
    void release_block(std::byte* block);
    Result<std::unique_ptr<Workspace>> workspace_for(const DeviceStep& step);
    Result<std::unique_ptr<BadTokens>> bad_tokens_for(const DeviceStep& step);
    // A step is open from now on: its stream waits for what came before, and its words and the table of slabs are on their way.
    Status admit(QueuedStep& queued, const DeviceStep& step, Workspace& workspace);
    Status collect(bool wait);
    bool is_pinned(const void* p, int64_t bytes) const;
    Status create_recoder();
    Status queue_recodes(std::span<const RecodeParams> jobs, int64_t bytes);
    // What is asked for once more, with what others gave back, where memory was refused.
    Status with_memory(const std::function<Status()>& attempt);
    // Waits for all that was queued and frees what was given back and what steps left for the next. False: there is nothing, or no way to
    // wait.
    bool reclaim();
    // After a wait: memory that nobody asks for again.
    void free_released();
    // Calls that wait for what they compute: their memory, and the end of them.
    Status reserve_call(const CallSizes& sizes);
    // Queues work behind all that steps have queued, waits for it and lets its results be taken.
    Status run_call(const CallSizes& sizes, const std::function<Status()>& queue, const std::function<void(CallMemory)>& take);
    void release_call(int64_t kept);  // what is larger
    Status queue_measure(std::span<const StatisticJob> jobs, const CallSizes& sizes);
    Status queue_route(std::span<const RouteJob> jobs, const CallSizes& sizes);
    Status queue_fold(std::span<const FoldJob> jobs, const CallSizes& sizes);
    Status queue_stores(std::span<const StoreParams> jobs);

    const int ordinal_;
    std::string name_;
    Stream stream_ = nullptr;  // of what no step does
    Heap heap_;
    Event order_event_ = nullptr, gather_event_ = nullptr;
    uint64_t order_ = 0;  // counts the times that order_event_ was recorded
    Status lost_;         // why the device cannot be used any more

    Waits waits_;
    std::mutex mutex_;
    std::unique_ptr<UploadRing> staging_;  // of write and read
    CallRoom room_;
    std::unique_ptr<UploadRing> recode_uploads_;  // of recode, which may not be refused memory once a table has changed
    std::vector<QueuedStep*> steps_;
    std::vector<std::unique_ptr<Workspace>> idle_, outgrown_;
    std::vector<std::unique_ptr<BadTokens>> idle_bad_, ended_bad_;  // ended ones: on their way to the host, oldest first
    std::vector<BadStore> found_;                                   // of those that came, for the next synchronize
    std::map<std::byte*, int64_t> blocks_;                          // and their bytes
    std::multimap<int64_t, std::byte*> released_;                   // kernels that were queued may still read them
    std::map<const std::byte*, int64_t> pinned_;
    size_t graphs_ = 0;  // that live
    std::vector<std::unique_ptr<GraphMemory>> retired_;
};

}  // namespace kvc::cuda

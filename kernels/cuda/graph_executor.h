// The calls of a step that a graph holds: recorded as launches with room for all that they can bring, or, to replay them, written as
// the tables which these launches read. Both walk the same layout.
#pragma once
#include <memory>
#include <vector>

#include "core/backend/device.h"
#include "kernels/cuda/graph.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/queued_step.h"

namespace kvc::cuda {

// What both have in common. Buffers are the device's, and mass is not for graphs.
class GraphCalls : public GraphExecutor {
public:
    explicit GraphCalls(CudaGraph& graph) : graph_(graph) {}

    void start(size_t layer) override { layer_ = &graph_.shape().layers[layer]; }
    Result<const void*> input(const void* buffer, int64_t) override { return buffer; }
    Result<void*> output(void* buffer, int64_t) override { return buffer; }
    Status deliver() override { return {}; }
    BadToken rehearse(std::span<const StoreParams>) override { return {}; }
    Status mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) override;
    Status page_mass(int64_t group, std::span<const MassItem> items) override;
    float* states() override { return reinterpret_cast<float*>(graph_.memory().workspace.states.data()); }
    float* lse() override { return nullptr; }
    PageSum* page_sums() override { return nullptr; }

protected:
    // Where the next table lies in the block, and where the layer's that is being called.
    template <class T>
    Result<int64_t> take(int64_t n) {
        return take_bytes(bytes_of<T>(n));
    }
    Result<int64_t> take_bytes(int64_t bytes);
    // Why there is no room for a call.
    Status no_room() const;
    template <class T>
    T* on_device(int64_t at) const {
        return reinterpret_cast<T*>(graph_.memory().tables.data() + at);
    }
    const GraphLayer& layer() const { return *layer_; }

    CudaGraph& graph_;
    int64_t used_ = 0;

private:
    const GraphLayer* layer_ = nullptr;
};

// On a stream that is being captured: launches, and nothing else.
class GraphRecorder final : public GraphCalls {
public:
    GraphRecorder(CudaGraph& graph, Stream stream, int ordinal) : GraphCalls(graph), stream_(stream), ordinal_(ordinal) {}

    Result<BadToken> append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                            std::span<const AppendGroup> groups) override;
    Status attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) override;
    Status finish(const FinishCall& call, std::span<const FinishTile> tiles) override;
    Status seal() override;

private:
    const Stream stream_;
    const int ordinal_;
    int64_t entries_bytes_ = 0;  // that the attends so far can bring
};

// Writes to the graph's next slot, and queues one copy.
class GraphReplay final : public GraphCalls, public QueuedStep {
public:
    GraphReplay(std::shared_ptr<CudaDevice> device, CudaGraph& graph, Stream stream, std::unique_ptr<BadTokens> bad);
    ~GraphReplay() override;
    Status may_end() override;

    Result<BadToken> append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                            std::span<const AppendGroup> groups) override;
    Status attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) override;
    Status finish(const FinishCall& call, std::span<const FinishTile> tiles) override;
    Status seal() override;

private:
    template <class T>
    void write(int64_t at, const T& value) {
        std::memcpy(host_ + at, &value, sizeof value);
    }
    Status write_stores(int64_t at, std::span<const StoreParams> jobs);

    const std::shared_ptr<CudaDevice> device_;
    std::byte* const host_;
    Tables entries_;  // behind the jobs
    // Of an attend: the params of each rung, and how many items it has so far.
    std::vector<std::pair<const AttendParams*, int64_t>> rungs_;
    Result<int64_t> place_of(const AttendParams* params);
};

}  // namespace kvc::cuda

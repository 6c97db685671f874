// One forward pass over a batch of sequences: begin reserves, append and attend fill and read, commit publishes, abort undoes.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/attend/host_executor.h"
#include "core/attend/plan.h"
#include "core/backend/device.h"
#include "core/backend/kernel_table.h"
#include "core/base/status.h"
#include "core/cache/buffer.h"
#include "core/store/sequence.h"

namespace kvc {

class Cache;
class Graph;
struct DeviceStep;
struct Layer;

struct StepOptions {
    BufferLayout k, v, q, out;
    bool partial_commit = false;
    bool strict = false;
    bool accumulate = false;
    bool device_buffers = false;  // k, v, q, out and lse lie in the memory of the cache's device
    void* stream = nullptr;       // of the device's, for what the step launches; nullptr: the device's own
    Graph* graph = nullptr;       // that the step is captured in or replays
};

struct AttendRequest {
    const void* q = nullptr;
    int64_t q_bytes = 0;
    void* out = nullptr;
    int64_t out_bytes = 0;
    float* out_lse = nullptr;
    int64_t lse_bytes = 0;
    float scale = 0;     // 0: 1 / sqrt(k_dim)
    float soft_cap = 0;  // 0: none
    bool partial = false;
    int64_t sliding_window = 0;  // 0: the layer's; -1: none
    int64_t causal_offset = 0;
};

// A call of a captured step.
struct GraphCall {
    size_t layer = 0;
    bool is_append = false;
    const void* k = nullptr;  // of an append
    const void* v = nullptr;
    AttendRequest request;  // of an attend, and whether its layer had sink logits
    bool sink_logits = false;
};

// What an append works on; sized by begin.
struct AppendScratch {
    std::vector<StoreParams> stores;
    std::vector<QuantizeParams> codes;
    std::vector<AppendGroup> groups;
};

class Step {
public:
    ~Step();

    Status append(int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes);
    Status attend(int64_t layer, const AttendRequest& request);
    // accepted: tokens to publish of each sequence, or empty for all of them.
    Status commit(std::span<const int64_t> accepted);
    Status abort();

private:
    friend class Cache;

    // Attention mass that this step adds, per kv head, in the order of the kernel's counters: of tokens, or of sinks and pages.
    struct HeadMass {
        std::vector<int64_t> sinks, coded, window;
    };
    struct LayerStep {
        std::vector<StepNeed> needs;     // per sequence
        std::vector<HeadMass> mass;      // per (sequence, kv head), if the step accumulates
        std::vector<QuerySums> queries;  // per (sequence, query head), if the policy asks
        bool appended = false;
    };

    // 16-bit records of tokens that arrive and leave the window within this step: they hold one layer at a time.
    struct Staging {
        int size_class = -1;
        int64_t owner = -1;  // the layer, -1 none yet
        std::vector<RecordId> records;
    };

    explicit Step(Cache& cache) : cache_(cache) {}

    Status check_open(const char* what) const;
    // To the cache's counters: what the last calls did.
    void count_work();

    // begin
    Status reserve();
    Status check_mass() const;
    Status check_room() const;
    std::vector<int64_t> record_needs() const;
    Status reserve_sequence(size_t b);
    bool reserve_head(size_t layer, const StepNeed& need, const LayerPages& pages, HeadPages& head, int64_t length);
    Status reserve_staging();
    Status reserve_scratch();
    // The most that one call needs.
    struct ScratchNeeds {
        int64_t tiles = 0, items = 0, states = 0, tile_states = 0, lse = 0, turned = 0, rung_entries = 0, stores = 0, codes = 0,
                groups = 0;
        int64_t sums = 0, tile_sums = 0;  // by pages
        int64_t entries = 0, counts = 0;  // of all items' tables, each as often as it is named
        int64_t kept_entries = 0;         // those of them that have a record, if the step accumulates
        void cover(const ScratchNeeds& other);
        void add(const ScratchNeeds& other);
    };
    ScratchNeeds layer_needs(size_t layer) const;
    // needs: of the largest call; whole: of all layers together.
    Status open_executor(const ScratchNeeds& needs, const ScratchNeeds& whole);
    Status open_device(const ScratchNeeds& needs, const ScratchNeeds& whole);
    int64_t rounds_of(const ScratchNeeds& whole) const;
    Status check_device() const;
    Status size_buffers(DeviceStep* step);
    Result<const void*> bring(const void* buffer, int64_t heads, int64_t dim, const BufferLayout& layout);
    Status noted(Status status) const;
    bool keeps_all_layers() const { return options_.partial_commit || options_.graph; }
    int64_t table_bytes() const;
    Status check_policy(const StepSequence& part) const;
    void reserve_mass();
    void reserve_queries();
    void cut_reservations();
    void release_staging();

    // append
    Status run_append(size_t layer, const void* k, const void* v);
    StoreParams store_params(const Layer& shape) const;
    void place_staging(size_t layer);
    void plan_append(size_t layer, const void* k, const void* v);
    void plan_stores(const Layer& shape, const StepSequence& part, const LayerPages& pages, const HeadPages& tables,
                     StoreParams& store);
    void plan_codes(const Layer& shape, const LayerPages& pages, int64_t coded_end, HeadPages& tables);
    Status refuse_token(size_t layer, const BadToken& bad, const void* k, const void* v) const;
    bool staging_lost(size_t layer) const;

    // attend
    struct AttendCall;
    Status run_attend(size_t layer, const AttendRequest& request);
    void set_call(AttendCall& call, const void* q, void* out, float* out_lse, const Rope& rope) const;
    void set_params(AttendCall& call, const BufferLayout& q, const Rope& rope, int64_t sliding) const;
    void sort_rungs(const AttendCall& call);
    Status run_rounds(const AttendCall& call);
    Status turn_sink_queries(AttendCall& call, const Rope& rope);
    Status attend_round(const AttendCall& call, std::span<QueryTile> tiles);
    Status finish_rows(const AttendCall& call, std::span<const QueryTile> tiles);
    Status add_mass(const AttendCall& call, std::span<const QueryTile> tiles);
    void plan_mass(const AttendCall& call, const QueryTile& tile, size_t head, int64_t counters);
    bool gathers_out(size_t layer) const;
    Status deliver(const AttendCall& call, bool gathered);
    void observe_queries(size_t layer, const void* q, const BufferLayout& layout);

    // graphs (step_graph.cpp)
    void use_graph_executor(std::unique_ptr<GraphExecutor> executor);
    Status record_append(size_t layer, const void* k, const void* v);
    Status record_attend(size_t layer, const AttendRequest& request);
    Status commit_recording();
    Status refuse_in_replay(const char* what) const;
    Status replay_calls();

    // commit
    Status check_commit(std::span<const int64_t> accepted) const;
    void publish_layer(size_t layer, size_t b, int64_t length);
    void publish_head(const Layer& layer, const StepNeed& need, const PageState& before, const PageState& after, int64_t old_length,
                      int64_t length, HeadPages& head);
    void publish_mass(size_t layer, size_t b, int64_t length);
    void add_token_mass(const PageRule& rule, const Sequence& sequence, const LayerPages& pages, const HeadMass& added,
                        HeadPages& head);
    void add_page_mass(const PageRule& rule, const Sequence& sequence, const LayerPages& pages, const HeadMass& added, HeadPages& head);
    void publish_queries(size_t layer, size_t b);
    void publish_unsettled(size_t b, int64_t count);
    void close();
    Status drop();

    Cache& cache_;
    StepOptions options_;
    bool by_pages_ = false;  // mass, if the step accumulates
    std::vector<StepSequence> sequences_;
    std::vector<LayerStep> layers_;
    std::vector<Staging> staging_;    // layers whose 16-bit records have the same size take turns with one
    std::vector<size_t> staging_of_;  // per layer: index into staging_
    int64_t tokens_ = 0;
    int64_t first_tag_ = 0;  // of stores: sequence b's are tagged first_tag_ + b
    int64_t scratch_bytes_ = 0;
    int64_t pages_quantized_ = 0, slow_calls_ = 0;  // that are not counted yet
    enum class Phase { reserving, open, ended } phase_ = Phase::reserving;

    std::mutex mutex_;  // calls on one step wait for each other
    std::unique_ptr<std::byte[]> scratch_block_;
    std::byte* scratch_ = nullptr;
    AppendScratch append_;
    AttendScratch attend_;
    std::vector<std::byte> out_rows_;  // dense rows of out on their way from a device to strides in host memory
    std::optional<HostExecutor> host_executor_;
    std::unique_ptr<DeviceExecutor> device_executor_;
    Executor* executor_ = nullptr;
    GraphExecutor* graph_executor_ = nullptr;  // the same, of a step that names a graph
    bool recording_ = false;
    std::vector<GraphCall> recorded_;
    float* states_ = nullptr;  // state_floats_ of them, where its kernels run
    int64_t state_floats_ = 0;
    PageSum* page_sums_ = nullptr;  // likewise, sum_room_ of them, if mass is counted by pages
    int64_t sum_room_ = 0;
    float* lse_ = nullptr;  // likewise; [tokens][q_heads], if the step accumulates
};

}  // namespace kvc

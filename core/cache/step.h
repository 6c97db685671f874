// One forward pass over a batch of sequences: begin reserves, append and attend fill and read, commit publishes, abort undoes.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/attend/plan.h"
#include "core/backend/kernel_table.h"
#include "core/base/status.h"
#include "core/cache/buffer.h"
#include "core/store/sequence.h"

namespace kvc {

class Cache;
struct Layer;

struct StepOptions {
    BufferLayout k, v, q, out;
    bool partial_commit = false;
    bool strict = false;
    bool accumulate = false;
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

    // Attention mass that this step adds, per kv head, in the order of the kernel's counters.
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

    // begin
    Status reserve();
    Status check_mass() const;
    Status check_room() const;
    std::vector<int64_t> record_needs() const;
    Status reserve_sequence(size_t b);
    bool reserve_head(size_t layer, const StepNeed& need, const LayerPages& pages, HeadPages& head, int64_t length);
    Status reserve_staging();
    void reserve_scratch();
    int64_t table_bytes() const;
    Status check_policy(const StepSequence& part) const;
    void reserve_mass();
    void reserve_queries();
    void cut_reservations();
    void release_staging();

    // append
    void place_staging(size_t layer);
    Status run_append(size_t layer, const void* k, const void* v, bool rehearse);
    int64_t store_tokens(size_t layer, const StepSequence& part, size_t head, const void* k, const void* v, std::byte* rehearsal);
    void quantize_pages(size_t layer, size_t b, size_t head);
    bool staging_lost(size_t layer) const;

    // attend
    struct AttendCall;
    const AttendParams& params_of(const AttendCall& call, size_t item) const;
    void sort_rungs(const AttendCall& call);
    void run_rounds(const AttendCall& call);
    void turn_sink_queries(const AttendCall& call, const Rope& rope);
    void attend_round(const AttendCall& call, std::span<const QueryTile> tiles);
    void finish_rows(const AttendCall& call, std::span<const QueryTile> tiles);
    void add_mass(const AttendCall& call);
    void observe_queries(size_t layer, const void* q, const BufferLayout& layout);

    // commit
    void publish_layer(size_t layer, size_t b, int64_t length);
    void publish_head(const Layer& layer, const StepNeed& need, const PageState& before, const PageState& after, int64_t old_length,
                      int64_t length, HeadPages& head);
    void publish_mass(size_t layer, size_t b, int64_t length);
    void publish_queries(size_t layer, size_t b);
    void close();

    Cache& cache_;
    StepOptions options_;
    std::vector<StepSequence> sequences_;
    std::vector<LayerStep> layers_;
    std::vector<Staging> staging_;    // layers whose 16-bit records have the same size take turns with one
    std::vector<size_t> staging_of_;  // per layer: index into staging_
    int64_t tokens_ = 0;
    int64_t scratch_bytes_ = 0;
    enum class Phase { reserving, open, ended } phase_ = Phase::reserving;

    std::mutex mutex_;  // calls on one step wait for each other
    std::unique_ptr<std::byte[]> scratch_block_;
    std::byte* scratch_ = nullptr;
    AttendScratch attend_;
};

}  // namespace kvc

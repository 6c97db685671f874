// One eviction from one sequence: everything is decided first and new records are filled aside; the tables change at the end, where
// nothing can fail.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "core/cache/cache.h"
#include "core/cache/merge.h"
#include "core/cache/repack.h"
#include "core/policy/policy.h"
#include "core/store/arena_forecast.h"
#include "core/store/device_blocks.h"

namespace kvc {

// What a policy asks of the keys and values of one (layer, kv head).
struct MeasuredHead {
    std::vector<double> of_keys;
    std::vector<float> value_norms;
};

// What one (layer, kv head) will look like.
struct HeadEviction {
    size_t layer, head;
    std::vector<uint64_t> live;    // per coded entry
    std::vector<uint64_t> window;  // per entry of 16-bit pages that may lose tokens; empty: they stay as they are
    int64_t first_seen = 0;        // pages below it no query sees: what leaves there was evicted before
    RepackPlan repack;
    // Merging: pages in which tokens are folded and which stay where they are, and all counts of the head from now on.
    std::vector<PageRewrite> rewrites;
    std::vector<TokenCount> counts;
    int64_t merged = 0, requantized = 0;
    std::vector<FoldedToken> folded;
};

// A kept token that others join, and which: itself first.
struct HeadFold {
    FoldedToken token;
    std::vector<size_t> members;
    std::vector<int64_t> weights;
};

// Jobs for a device, and what they point to.
struct RecodeList {
    std::vector<RecodeParams> jobs;
    std::vector<RecodeSource> sources;
    std::vector<FoldedRow> folds;

    // A page of these tokens, the last of which fills it up. The job brings all that is not said by them.
    void add(RecodeParams job, const RepackInput& input, std::span<const RepackedToken> tokens);
    // Behind the last job.
    void seal();

private:
    std::vector<size_t> first_source_, first_fold_;
};

class Evictor {
public:
    Evictor(Cache& cache, Sequence& sequence, const EvictRequest& request)
        : cache_(cache), sequence_(sequence), request_(request), blocks_(cache.device_.get()) {}
    ~Evictor() { release_acquired(); }
    Evictor(const Evictor&) = delete;
    Evictor& operator=(const Evictor&) = delete;

    Status check();
    Status plan();
    // Records for all that is new; refused if the arena is full.
    Status acquire();
    // What acquire() takes from the arena, by size class.
    std::vector<int64_t> needs() const;
    void release_acquired();
    EvictReport apply() { return apply(nullptr); }
    // The same without room for both: what leaves is released first, and what comes waits in the host's memory, or in the device's outside
    // of the arena. No value, and nothing has changed, if even so there is no room.
    std::optional<EvictReport> exchange();
    // Drops entries of the prefix index, if exchange() then finds room.
    bool drop_entries();

private:
    using Tokens = std::vector<Cache::LiveToken>;

    // The arena once what leaves is released.
    ArenaForecast without_old() const;

    // Which tokens stay (choose.cpp).
    bool may_leave(size_t layer, const Cache::LiveToken& token) const;
    // First tokens that stay besides.
    int64_t unasked_sinks(size_t layer) const;
    void choose_by_list(size_t layer, std::span<const Tokens> tokens, std::vector<std::vector<bool>>* keep) const;
    Status choose_by_score(size_t layer, std::span<const Tokens> tokens, const float* given,
                           std::vector<std::vector<bool>>* keep) const;
    HeadScores score_head(size_t layer, size_t head, const Tokens& tokens, const MeasuredHead& measured, int64_t recent,
                          const float* given) const;
    std::vector<double> mass_of(size_t layer, size_t head, const Tokens& tokens) const;
    const Policy& policy() const;
    // Numbers that the policy takes from keys and values, of each of the layer's heads: where the pages lie (measure.cpp).
    Status measure(size_t layer, std::span<const Tokens> tokens, std::vector<MeasuredHead>* out) const;
    Status measure_there(size_t layer, std::span<const Tokens> tokens, std::vector<MeasuredHead>* out) const;

    std::pair<int64_t, int64_t> head_range(size_t layer) const;
    Status plan_layer(size_t layer, const float* given, const int32_t* clusters);
    Status plan_head(size_t layer, size_t head, const Tokens& tokens, const std::vector<bool>& keep, std::span<const int64_t> into,
                     std::vector<FoldedToken> folded);
    void plan_repacking(HeadEviction* eviction) const;
    bool leaves(const HeadEviction& eviction, size_t entry) const;
    void reuse_records(bool on_host);

    // Merging (merge.cpp). `into`: per token the one that it joins, itself, or joins_none; empty: nothing is merged.
    const MergeRule* merging(size_t layer) const;
    Status check_clusters() const;
    Status choose_by_clusters(size_t layer, std::span<const Tokens> tokens, const int32_t* clusters,
                              std::vector<std::vector<bool>>* keep, std::vector<std::vector<int64_t>>* into) const;
    Status plan_counts(HeadEviction* eviction, const Tokens& tokens, const std::vector<bool>& keep) const;
    void plan_rewrites(HeadEviction* eviction) const;
    PageRewrite rewrite_rows(const HeadEviction& eviction, std::span<const FoldedToken> folded, size_t first) const;
    RecordId& record_of(const HeadEviction& eviction, const PageRewrite& rewrite) const;
    bool acquire_rewrite(const HeadEviction& eviction, PageRewrite* rewrite);
    void apply_rewrites(HeadEviction& eviction, EvictReport* report);

    // Its numbers, of each head of a layer (fold.cpp).
    Status route(size_t layer, std::span<const Tokens> tokens, std::span<const std::vector<bool>> keep,
                 std::vector<std::vector<int64_t>>* into) const;
    Status route_there(size_t layer, std::span<const Tokens> tokens, std::span<const std::vector<bool>> keep,
                       std::vector<std::vector<int64_t>>* into) const;
    std::vector<HeadFold> folds_of(size_t layer, size_t head, const Tokens& tokens, std::span<const int64_t> into) const;
    void means_here(size_t layer, const Tokens& tokens, std::span<HeadFold> folds) const;
    Status means_there(size_t layer, std::span<const Tokens> tokens, std::span<std::vector<HeadFold>> folds);
    Status fold_layer(size_t layer, std::span<const Tokens> tokens, std::span<const std::vector<int64_t>> into,
                      std::vector<std::vector<FoldedToken>>* out);

    // Repacking and rewriting on a device (evict_recode.cpp).
    static bool recodes(const HeadEviction& eviction);
    void reuse_behind_readers(HeadEviction& eviction);
    void prepare_recodes();
    bool hold_recodes();
    void fill_on_host();
    void prepare_rewrites();
    void make_rewrites();
    template <class Visit>
    void each_rewrite(const Visit& visit);

    RepackInput repack_input(const HeadEviction& eviction) const;
    int repack_class(const HeadEviction& eviction) const;  // of the new pages' records
    EvictReport apply(CompactionRoom* room);
    void drop_pages(HeadEviction& eviction, EvictReport* report);
    void fill_pages(HeadEviction& eviction, EvictReport* report);
    void mask_window(HeadEviction& eviction, EvictReport* report);
    void mask_spares(size_t layer, size_t head);
    static void trim_dropped(LayerPages* pages);

    Cache& cache_;
    Sequence& sequence_;
    EvictRequest request_;
    std::vector<HeadEviction> heads_;
    std::vector<uint64_t> spare_masks_;  // of one head at a time; sized before anything changes
    // What a device is to do, written down before anything changes: new pages, pages in which tokens are folded, and rows of 16 bits in
    // which they are.
    RecodeList recodes_, rewrites_;
    std::vector<StoreParams> stores_;
    DeviceBlocks blocks_;
};

}  // namespace kvc

// One eviction from one sequence: everything is decided first and new records are filled aside; the tables change at the end, where
// nothing can fail.
#pragma once
#include <span>
#include <vector>

#include "core/cache/cache.h"
#include "core/cache/repack.h"
#include "core/policy/policy.h"

namespace kvc {

// What one (layer, kv head) will look like.
struct HeadEviction {
    size_t layer, head;
    std::vector<uint64_t> live;    // per coded entry
    std::vector<uint64_t> window;  // per entry of 16-bit pages that may lose tokens; empty: they stay as they are
    RepackPlan repack;
};

class Evictor {
public:
    Evictor(Cache& cache, Sequence& sequence, const EvictRequest& request) : cache_(cache), sequence_(sequence), request_(request) {}

    Status check();
    Status plan();
    Status acquire();
    std::vector<int64_t> needs() const;
    void release_acquired();
    EvictReport apply();

private:
    using Tokens = std::vector<Cache::LiveToken>;

    // Which tokens stay (choose.cpp).
    bool may_leave(size_t layer, const Cache::LiveToken& token) const;
    void choose_by_list(size_t layer, std::span<const Tokens> tokens, std::vector<std::vector<bool>>* keep) const;
    Status choose_by_score(size_t layer, std::span<const Tokens> tokens, const float* given,
                           std::vector<std::vector<bool>>* keep) const;
    HeadScores score_head(size_t layer, size_t head, const Tokens& tokens, int64_t recent, const float* given) const;
    std::vector<double> mass_of(size_t layer, size_t head, const Tokens& tokens) const;
    const Policy& policy() const;

    std::pair<int64_t, int64_t> head_range(size_t layer) const;
    Status plan_layer(size_t layer, const float* given);
    Status plan_head(size_t layer, size_t head, const Tokens& tokens, const std::vector<bool>& keep);
    RecordId take_side(const std::vector<PageEntry>& coded, const RepackPlan& repack, size_t* next);
    void apply_head(HeadEviction& eviction, EvictReport* report);
    void mask_window(HeadEviction& eviction, EvictReport* report);
    void mask_spares(size_t layer, size_t head);
    static void trim_dropped(LayerPages* pages);

    Cache& cache_;
    Sequence& sequence_;
    EvictRequest request_;
    std::vector<HeadEviction> heads_;
    std::vector<uint64_t> spare_masks_;  // of one head at a time; sized before anything changes
};

}  // namespace kvc

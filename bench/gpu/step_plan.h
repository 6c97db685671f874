// Everything that the steps of all layers of a cache are launched with, for one length of split: one new token of each sequence, or the
// last tokens of a prompt in tiles of 64.
#pragma once
#include <vector>

#include "bench/gpu/decode_cache.h"

namespace kvc_bench {

// How many tokens of coded pages an item has in a step of the library (core/attend/plan.h); a prompt's items have all.
int64_t library_split_tokens(const Shape& shape);

class StepPlan {
public:
    // q: halves [batch][tokens][kv_heads][group][k_dim]; split_tokens: of whole pages.
    StepPlan(const DecodeCache& cache, const std::vector<uint16_t>& q, int64_t split_tokens);

    StepCall call(int64_t layer) const;
    // The same items with a counter for each token of each head; of decode steps.
    const kvc::MassItem* mass_items(int64_t layer) const;
    int64_t* counters() const { return counters_.as<int64_t>(); }
    int64_t counter_bytes() const { return counters_.bytes(); }
    int64_t counters_of_head() const;

    // The same items, that leave what each page's softmax weighed in page_sums(), and the jobs that count it, a counter for each run of
    // an item (AttendItem::runs(), most_runs() apart); of decode steps.
    StepCall call_with_sums(int64_t layer) const;
    const PageCount* page_counts() const { return page_counts_.as<PageCount>(); }
    int64_t items_of_layer() const { return cache_.shape().batch * tiles_ * cache_.shape().kv_heads * splits_; }
    int64_t most_runs() const { return 1 + split_pages_ + cache_.window_pages(); }
    const Memory& page_sums() const { return page_sums_; }
    const Memory& page_counters() const { return page_counters_; }

    float scale() const;
    int64_t tokens() const { return tiles_ * tile_tokens_; }  // of a sequence in a step
    int64_t rows() const;                                     // [batch][tokens][kv_heads][group]
    const Memory& out() const { return out_; }
    const Memory& lse() const { return lse_; }

private:
    struct Place {
        int64_t layer, sequence, tile;
        int kv_head;
        int64_t split;
    };
    int64_t state_row() const { return cache_.format().v_dim + 2; }
    int64_t heads() const { return int64_t{cache_.shape().kv_heads} * cache_.shape().group; }
    int64_t states_of_split() const { return tile_tokens_ * heads() * state_row(); }
    int64_t row_of(int64_t sequence, int64_t token, int kv_head) const;
    // [batch][tiles][splits][tokens of a tile][query heads][v_dim + 2].
    float* states_of(const Place& place) const;
    kvc::AttendItem item_of(const Place& place) const;
    kvc::MassItem mass_item_of(const Place& place) const;
    int64_t index_in_layer(const Place& place) const;
    kvc::AttendItem item_with_sums(const Place& place) const;
    PageCount page_count_of(const Place& place) const;
    void add_items();
    void add_tiles();

    const DecodeCache& cache_;
    int64_t tile_tokens_, tiles_, split_pages_, splits_;
    Memory q_, states_, out_, lse_, counters_{0}, items_{0}, mass_items_{0}, tile_list_{0};
    // Of one layer: layers come one after the other.
    Memory page_sums_{0}, page_counters_{0}, items_with_sums_{0}, page_counts_{0};
};

}  // namespace kvc_bench

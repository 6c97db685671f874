#include "bench/gpu/step_plan.h"

#include <algorithm>
#include <cmath>

#include "bench/gpu/exact_row.h"
#include "core/attend/plan.h"

namespace kvc_bench {
namespace {

constexpr int64_t prompt_tile = 64;

}  // namespace

int64_t library_split_tokens(const Shape& shape) {
    return (shape.new_tokens > 0 ? ceil_div(shape.context, kvc::page_tokens) : kvc::split_pages) * kvc::page_tokens;
}

StepPlan::StepPlan(const DecodeCache& cache, const std::vector<uint16_t>& q, int64_t split_tokens)
    : cache_(cache),
      tile_tokens_(cache.shape().new_tokens > 0 ? prompt_tile : 1),
      tiles_(cache.shape().new_tokens > 0 ? cache.shape().new_tokens / prompt_tile : 1),
      split_pages_(std::min(split_tokens / kvc::page_tokens, cache.coded_pages())),
      splits_(split_pages_ > 0 ? ceil_div(cache.coded_pages(), split_pages_) : 1),
      q_(on_device(q)),
      states_(rows() * splits_ * state_row() * 4),
      out_(rows() * cache.format().v_dim * 2),
      lse_(rows() * 4) {
    const bool has_mass = tiles_ * tile_tokens_ == 1;
    if (has_mass) {
        counters_ = Memory(cache.layers() * cache.shape().batch * cache.shape().kv_heads * counters_of_head() * 8);
        page_sums_ = Memory(items_of_layer() * most_runs() * cache.shape().group * int64_t{sizeof(kvc::PageSum)});
        page_counters_ = Memory(items_of_layer() * most_runs() * 8);
    }
    add_items();
    add_tiles();
}

float StepPlan::scale() const { return float(1.0 / std::sqrt(double(cache_.format().k_dim))); }

int64_t StepPlan::rows() const { return cache_.shape().batch * tokens() * cache_.shape().kv_heads * cache_.shape().group; }

int64_t StepPlan::counters_of_head() const {
    return cache_.format().codec.sinks + (cache_.coded_pages() + cache_.window_pages()) * kvc::page_tokens;
}

int64_t StepPlan::row_of(int64_t sequence, int64_t token, int kv_head) const {
    const Shape& s = cache_.shape();
    return ((sequence * tokens() + token) * s.kv_heads + kv_head) * s.group;
}

StepCall StepPlan::call(int64_t layer) const {
    const Shape& s = cache_.shape();
    const int64_t dim = cache_.format().k_dim, n_items = items_of_layer();
    StepCall call{
        {&cache_.format(), cache_.arena(), kvc::Dtype::f16, s.group * s.kv_heads * dim, dim, s.group, scale(), 0.0f, INT64_MAX, 0}};
    call.items = items_.as<kvc::AttendItem>() + layer * n_items;
    call.n_items = int(n_items);
    call.tokens = tile_tokens_;
    const int64_t v_dim = cache_.format().v_dim;
    call.finish = {&cache_.format(), heads(), nullptr, kvc::Dtype::f16, out_.data(), heads() * v_dim, v_dim, lse_.as<float>(), nullptr};
    call.tiles = tile_list_.as<kvc::FinishTile>();
    call.n_tiles = int(s.batch * tiles_);
    return call;
}

StepCall StepPlan::call_with_sums(int64_t layer) const {
    StepCall call = this->call(layer);
    call.items = items_with_sums_.as<kvc::AttendItem>() + layer * items_of_layer();
    return call;
}

const kvc::MassItem* StepPlan::mass_items(int64_t layer) const { return mass_items_.as<kvc::MassItem>() + layer * items_of_layer(); }

float* StepPlan::states_of(const Place& p) const {
    const int64_t split = (p.sequence * tiles_ + p.tile) * splits_ + p.split;
    return states_.as<float>() + split * states_of_split() + int64_t{p.kv_head} * cache_.shape().group * state_row();
}

// Sinks belong to the first split, the window to the last.
kvc::AttendItem StepPlan::item_of(const Place& p) const {
    const Shape& s = cache_.shape();
    const DecodeCache::Head head = cache_.head(p.layer, p.sequence, p.kv_head);
    const int64_t sinks = cache_.format().codec.sinks, first = std::min(p.split * split_pages_, cache_.coded_pages());
    const int64_t first_token = p.tile * tile_tokens_;
    kvc::AttendItem item{};
    item.q = q_.as<uint16_t>() + row_of(p.sequence, first_token, p.kv_head) * cache_.format().k_dim;
    item.tokens = tile_tokens_;
    item.first_position = s.context - tokens() + first_token;
    item.prompt_class = tile_tokens_ > 1;
    if (p.split == 0 && sinks > 0) {
        item.sinks = head.sinks;
        item.sink_tokens = sinks;
    }
    item.coded = head.coded + first;
    item.n_coded = std::min(split_pages_, cache_.coded_pages() - first);
    item.coded_position = sinks + first * kvc::page_tokens;
    item.window_position = sinks + cache_.coded_pages() * kvc::page_tokens;
    if (p.split + 1 == splits_) {
        item.window = head.window;
        item.n_window = cache_.window_pages();
    }
    item.state = states_of(p);
    item.state_token_stride = heads();
    return item;
}

kvc::MassItem StepPlan::mass_item_of(const Place& p) const {
    const Shape& s = cache_.shape();
    const int64_t list = (p.layer * s.batch + p.sequence) * s.kv_heads + p.kv_head;
    int64_t* const sinks = counters() + list * counters_of_head();
    int64_t* const coded = sinks + cache_.format().codec.sinks;
    kvc::MassItem mass{};
    mass.item = item_of(p);
    mass.lse = lse_.as<float>() + row_of(p.sequence, 0, p.kv_head);
    mass.lse_token_stride = s.kv_heads * s.group;
    mass.sinks = sinks;
    mass.coded = coded + p.split * split_pages_ * kvc::page_tokens;
    mass.window = coded + cache_.coded_pages() * kvc::page_tokens;
    return mass;
}

int64_t StepPlan::index_in_layer(const Place& p) const {
    return (p.sequence * cache_.shape().kv_heads + p.kv_head) * splits_ + p.split;
}

kvc::AttendItem StepPlan::item_with_sums(const Place& p) const {
    kvc::AttendItem item = item_of(p);
    item.page_sums = page_sums_.as<kvc::PageSum>() + index_in_layer(p) * most_runs() * cache_.shape().group;
    return item;
}

PageCount StepPlan::page_count_of(const Place& p) const {
    const kvc::AttendItem item = item_with_sums(p);
    const kvc::MassItem mass = mass_item_of(p);
    return {item.page_sums, mass.lse,    mass.lse_token_stride,
            item.tokens,    item.runs(), page_counters_.as<int64_t>() + index_in_layer(p) * most_runs()};
}

void StepPlan::add_items() {
    const Shape& s = cache_.shape();
    std::vector<kvc::AttendItem> items;
    std::vector<kvc::AttendItem> items_with_sums;
    std::vector<kvc::MassItem> mass_items;
    std::vector<PageCount> page_counts;
    for (int64_t list = 0; list < cache_.layers() * s.batch * tiles_ * s.kv_heads; list++) {
        Place place{list / s.kv_heads / tiles_ / s.batch, list / s.kv_heads / tiles_ % s.batch, list / s.kv_heads % tiles_,
                    int(list % s.kv_heads), 0};
        for (; place.split < splits_; place.split++) {
            items.push_back(item_of(place));
            if (counters_.bytes() > 0) {
                mass_items.push_back(mass_item_of(place));
                items_with_sums.push_back(item_with_sums(place));
            }
            if (counters_.bytes() > 0 && place.layer == 0) {
                page_counts.push_back(page_count_of(place));
            }
        }
    }
    items_ = on_device(items);
    mass_items_ = on_device(mass_items);
    items_with_sums_ = on_device(items_with_sums);
    page_counts_ = on_device(page_counts);
}

void StepPlan::add_tiles() {
    std::vector<kvc::FinishTile> tiles;
    for (int64_t tile = 0; tile < cache_.shape().batch * tiles_; tile++) {
        const Place place{0, tile / tiles_, tile % tiles_, 0, 0};
        tiles.push_back({states_of(place), tile_tokens_, splits_, states_of_split(), tile * tile_tokens_});
    }
    tile_list_ = on_device(tiles);
}

}  // namespace kvc_bench

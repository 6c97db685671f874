// Append: one layer's new keys and values into their slots, then the codes of every page that falls behind the window.
#include <algorithm>

#include "core/base/half.h"
#include "core/cache/buffer.h"
#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {

// Hands the staging to this layer: its records go into the tables where begin left gaps.
void Step::place_staging(size_t layer) {
    Staging& staging = staging_[staging_of_[layer]];
    size_t next = 0;
    for (size_t b = 0; b < sequences_.size(); b++) {
        const Sequence& sequence = *sequences_[b].sequence;
        LayerPages& pages = sequences_[b].sequence->layers[layer];
        const PageRule& rule = cache_.layers_[layer].rule;
        const int64_t first_new = std::max(rule.pages(sequence.length), pages.state.first_window);
        for (HeadPages& head : pages.heads) {
            for (int64_t i = 0; i < layers_[layer].needs[b].staged; i++) {
                head.window[size_t(first_new - pages.state.first_window + i)].record = staging.records[next++];
            }
        }
    }
    if (next > 0) staging.owner = int64_t(layer);
}

// True if the layer used the staging and another layer has taken it over since.
bool Step::staging_lost(size_t layer) const {
    const auto staged = [](const StepNeed& need) { return need.staged > 0; };
    const std::vector<StepNeed>& needs = layers_[layer].needs;
    return std::any_of(needs.begin(), needs.end(), staged) && staging_[staging_of_[layer]].owner != int64_t(layer);
}

// What all jobs of a layer have in common.
StoreParams Step::store_params(const Layer& shape) const {
    const BufferLayout k = dense(options_.k, shape.kv_heads, shape.format.k_dim);
    StoreParams store = {};
    store.format = &shape.format;
    store.dtype = k.dtype;
    store.k_stride = k.token_stride;
    store.v_stride = dense(options_.v, shape.kv_heads, shape.format.v_dim).token_stride;
    store.saturate = cache_.saturate_;
    return store;
}

// A job for each 16-bit record that a (sequence, kv head) has new tokens for, and one for each page that they push out of the window.
void Step::plan_append(size_t layer, const void* k, const void* v) {
    const Layer& shape = cache_.layers_[layer];
    const BufferLayout k_layout = dense(options_.k, shape.kv_heads, shape.format.k_dim);
    const BufferLayout v_layout = dense(options_.v, shape.kv_heads, shape.format.v_dim);
    const int64_t unit = bytes_of(k_layout.dtype);
    StoreParams store = store_params(shape);
    append_.stores.clear();
    append_.codes.clear();
    append_.groups.clear();
    for (size_t b = 0; b < sequences_.size(); b++) {
        const StepSequence& part = sequences_[b];
        if (part.count == 0) continue;
        store.tag = first_tag_ + int64_t(b);
        LayerPages& pages = part.sequence->layers[layer];
        const int64_t coded_end = settle(shape.rule, pages.state, part.sequence->length + part.count).coded_end;
        for (size_t h = 0; h < pages.heads.size(); h++) {
            AppendGroup group = {int64_t(append_.stores.size()), 0, int64_t(append_.codes.size()), 0};
            store.k =
                static_cast<const std::byte*>(k) + (part.first_row * k_layout.token_stride + int64_t(h) * k_layout.head_stride) * unit;
            store.v =
                static_cast<const std::byte*>(v) + (part.first_row * v_layout.token_stride + int64_t(h) * v_layout.head_stride) * unit;
            plan_stores(shape, part, pages, pages.heads[h], store);
            plan_codes(shape, pages, coded_end, pages.heads[h]);
            group.stores = int64_t(append_.stores.size()) - group.first_store;
            group.codes = int64_t(append_.codes.size()) - group.first_code;
            append_.groups.push_back(group);
        }
    }
}

// k and v of `store` are those of the head's first new token, and afterwards of nothing.
void Step::plan_stores(const Layer& shape, const StepSequence& part, const LayerPages& pages, const HeadPages& tables,
                       StoreParams& store) {
    const ArenaView arena = cache_.arena_->view();
    const int64_t unit = bytes_of(store.dtype), length = part.sequence->length, end = length + part.count;
    for (int64_t index = length; index < end; index += store.tokens) {
        store.sinks = index < shape.rule.sinks;
        const int64_t page = store.sinks ? 0 : shape.rule.page_of(index);
        store.first_slot = store.sinks ? index : index - shape.rule.page_start(page);
        store.tokens = std::min(end - index, store.sinks ? shape.rule.sinks - index : page_tokens - store.first_slot);
        store.first_token = index - length;
        store.record = store.sinks ? arena.at(tables.sinks, shape.format.sink_bytes)
                                   : arena.at(tables.window[size_t(page - pages.state.first_window)].record, shape.format.window_bytes);
        append_.stores.push_back(store);
        store.k = static_cast<const std::byte*>(store.k) + store.tokens * store.k_stride * unit;
        store.v = static_cast<const std::byte*>(store.v) + store.tokens * store.v_stride * unit;
    }
}

// Pages that the step's last token leaves behind the window, up to coded_end.
void Step::plan_codes(const Layer& shape, const LayerPages& pages, int64_t coded_end, HeadPages& tables) {
    const ArenaView arena = cache_.arena_->view();
    for (int64_t page = pages.state.coded_end; page < coded_end; page++) {
        const PageEntry& window = tables.window[size_t(page - pages.state.first_window)];
        const size_t e = size_t(page - pages.state.first_coded);
        if (shape.rule.lossless) {
            tables.coded.resize(e);  // an append that is tried again finds its pages here; begin reserved the capacity
            tables.coded.push_back(window);
            continue;
        }
        tables.coded[e].live = window.live;
        append_.codes.push_back({&shape.format, arena.at(window.record, shape.format.window_bytes),
                                 arena.at(tables.coded[e].record, shape.format.code_bytes)});
    }
}

Status Step::refuse_token(size_t layer, const BadToken& bad, const void* k, const void* v) const {
    const Layer& shape = cache_.layers_[layer];
    const LayerFormat& format = shape.format;
    const StoreParams& store = append_.stores[size_t(bad.job)];
    const auto holds = [&](const AppendGroup& group) { return bad.job < group.first_store + group.stores; };
    const auto group = std::find_if(append_.groups.begin(), append_.groups.end(), holds);
    const int64_t heads = shape.kv_heads, head = (group - append_.groups.begin()) % heads;
    const int64_t token = sequences_[size_t(store.tag - first_tag_)].first_row + bad.token + store.first_token;
    const BufferLayout k_layout = dense(options_.k, heads, format.k_dim), v_layout = dense(options_.v, heads, format.v_dim);
    return fail(Code::nonfinite, "append: layer ", int64_t(layer), ", token ", token, " of the step, kv head ", head, ": keys reach ",
                reach_of_row(k, token, head, format.k_dim, k_layout), ", values ", reach_of_row(v, token, head, format.v_dim, v_layout),
                "; 16 bits hold finite numbers up to ", double(format.bf16_window ? bf16_max : f16_max),
                format.codec.k.rotate || format.codec.v.rotate ? ", after rotation too" : "", " (saturate = 1 clamps finite ones)");
}

Status Step::append(int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes) {
    std::lock_guard call(mutex_);
    KVC_TRY(check_open("append"));
    KVC_TRY(cache_.arena_->fault());
    KVC_TRY(refuse_in_replay("append"));
    if (layer < 0 || layer >= int64_t(layers_.size())) {
        return fail(Code::argument, "append: layer ", layer, " is out of range (layers = ", int64_t(layers_.size()), ")");
    }
    LayerStep& state = layers_[size_t(layer)];
    if (state.appended) return fail(Code::order, "append: layer ", layer, " was appended in this step before");
    const Layer& shape = cache_.layers_[size_t(layer)];
    const int64_t k_dim = shape.format.k_dim, v_dim = shape.format.v_dim;
    KVC_TRY(check_buffer("append: k", k, k_bytes, tokens_, shape.kv_heads, k_dim, dense(options_.k, shape.kv_heads, k_dim)));
    KVC_TRY(check_buffer("append: v", v, v_bytes, tokens_, shape.kv_heads, v_dim, dense(options_.v, shape.kv_heads, v_dim)));
    KVC_TRY(recording_ ? record_append(size_t(layer), k, v) : noted(run_append(size_t(layer), k, v)));
    state.appended = true;
    count_work();
    return {};
}

Status Step::run_append(size_t layer, const void* k, const void* v) {
    const Layer& shape = cache_.layers_[layer];
    const int64_t heads = shape.kv_heads, k_dim = shape.format.k_dim, v_dim = shape.format.v_dim;
    executor_->start(layer);
    const Result<const void*> keys = bring(k, heads, k_dim, dense(options_.k, heads, k_dim));
    const Result<const void*> values = bring(v, heads, v_dim, dense(options_.v, heads, v_dim));
    if (!keys.ok()) return keys.status();
    if (!values.ok()) return values.status();
    // Taking the staging over destroys what another layer left there: that must not happen in a call that fails.
    const Staging& staging = staging_[staging_of_[layer]];
    if (!staging.records.empty() && staging.owner != -1 && staging.owner != int64_t(layer)) {
        plan_append(layer, *keys, *values);
        if (const BadToken bad = executor_->rehearse(append_.stores); bad.job >= 0) return refuse_token(layer, bad, k, v);
    }
    place_staging(layer);
    plan_append(layer, *keys, *values);
    const Result<BadToken> bad = executor_->append(append_.stores, append_.codes, append_.groups);
    if (!bad.ok()) return bad.status();
    if (bad->job >= 0) return refuse_token(layer, *bad, k, v);
    pages_quantized_ += int64_t(append_.codes.size());
    return {};
}

}  // namespace kvc

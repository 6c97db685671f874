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

// One job for the new tokens of each (sequence, 16-bit record, kv head), in this order.
void Step::plan_stores(size_t layer, const void* k, const void* v) {
    const Layer& shape = cache_.layers_[layer];
    const int64_t heads = shape.kv_heads;
    const ArenaView arena = cache_.arena_->view();
    const BufferLayout k_layout = dense(options_.k, heads, shape.format.k_dim);
    const BufferLayout v_layout = dense(options_.v, heads, shape.format.v_dim);
    const int64_t unit = bytes_of(k_layout.dtype);
    StoreParams store = {};
    store.format = &shape.format;
    store.dtype = k_layout.dtype;
    store.k_stride = k_layout.token_stride;
    store.v_stride = v_layout.token_stride;
    store.saturate = cache_.saturate_;
    append_.stores.clear();
    store.tag = first_tag_ - 1;
    for (const StepSequence& part : sequences_) {
        store.tag++;
        const Sequence& sequence = *part.sequence;
        const LayerPages& pages = sequence.layers[layer];
        const int64_t end = sequence.length + part.count;
        for (int64_t index = sequence.length; index < end; index += store.tokens) {
            store.sinks = index < shape.rule.sinks;
            const int64_t page = store.sinks ? 0 : shape.rule.page_of(index);
            store.first_slot = store.sinks ? index : index - shape.rule.page_start(page);
            store.tokens = std::min(end - index, store.sinks ? shape.rule.sinks - index : page_tokens - store.first_slot);
            store.first_token = index - sequence.length;
            const int64_t row = part.first_row + store.first_token;
            store.k = static_cast<const std::byte*>(k) + row * k_layout.token_stride * unit;
            store.v = static_cast<const std::byte*>(v) + row * v_layout.token_stride * unit;
            for (const HeadPages& tables : pages.heads) {
                store.record = store.sinks
                                   ? arena.at(tables.sinks, shape.format.sink_bytes)
                                   : arena.at(tables.window[size_t(page - pages.state.first_window)].record, shape.format.window_bytes);
                append_.stores.push_back(store);
                store.k = static_cast<const std::byte*>(store.k) + k_layout.head_stride * unit;
                store.v = static_cast<const std::byte*>(store.v) + v_layout.head_stride * unit;
            }
        }
    }
}

// Codes of the pages that the step's last tokens leave behind the window.
void Step::plan_codes(size_t layer) {
    const Layer& shape = cache_.layers_[layer];
    const ArenaView arena = cache_.arena_->view();
    append_.codes.clear();
    for (const StepSequence& part : sequences_) {
        LayerPages& pages = part.sequence->layers[layer];
        const int64_t coded_end = settle(shape.rule, pages.state, part.sequence->length + part.count).coded_end;
        for (HeadPages& tables : pages.heads) {
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
    }
}

Status Step::refuse_token(size_t layer, const BadToken& bad, const void* k, const void* v) const {
    const Layer& shape = cache_.layers_[layer];
    const LayerFormat& format = shape.format;
    const StoreParams& store = append_.stores[size_t(bad.job)];
    const int64_t heads = shape.kv_heads, head = bad.job % heads;
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
    if (layer < 0 || layer >= int64_t(layers_.size())) {
        return fail(Code::argument, "append: layer ", layer, " is out of range (layers = ", int64_t(layers_.size()), ")");
    }
    LayerStep& state = layers_[size_t(layer)];
    if (state.appended) return fail(Code::order, "append: layer ", layer, " was appended in this step before");
    const Layer& shape = cache_.layers_[size_t(layer)];
    const int64_t k_dim = shape.format.k_dim, v_dim = shape.format.v_dim;
    KVC_TRY(check_buffer("append: k", k, k_bytes, tokens_, shape.kv_heads, k_dim, dense(options_.k, shape.kv_heads, k_dim)));
    KVC_TRY(check_buffer("append: v", v, v_bytes, tokens_, shape.kv_heads, v_dim, dense(options_.v, shape.kv_heads, v_dim)));
    const Result<const void*> keys = executor_->input(k, k_bytes), values = executor_->input(v, v_bytes);
    if (!keys.ok()) return keys.status();
    if (!values.ok()) return values.status();
    // Taking the staging over destroys what another layer left there: that must not happen in a call that fails.
    const Staging& staging = staging_[staging_of_[size_t(layer)]];
    if (!staging.records.empty() && staging.owner != -1 && staging.owner != layer) {
        plan_stores(size_t(layer), *keys, *values);
        if (const BadToken bad = executor_->rehearse(append_.stores); bad.job >= 0) return refuse_token(size_t(layer), bad, k, v);
    }
    place_staging(size_t(layer));
    plan_stores(size_t(layer), *keys, *values);
    const Result<BadToken> bad = executor_->store(append_.stores);
    if (!bad.ok()) return bad.status();
    if (bad->job >= 0) return refuse_token(size_t(layer), *bad, k, v);
    plan_codes(size_t(layer));
    KVC_TRY(executor_->quantize(append_.codes));
    cache_.counters_.pages_quantized += int64_t(append_.codes.size());
    state.appended = true;
    return {};
}

}  // namespace kvc

// Append: one layer's new keys and values into their slots, then the codes of every page that falls behind the window.
#include <algorithm>
#include <atomic>
#include <climits>

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

// Writes the new tokens of one (sequence, kv head), or with `rehearsal` only tries to, into that memory; -1, or the first token that
// cannot be stored.
int64_t Step::store_tokens(size_t layer, const StepSequence& part, size_t head, const void* k, const void* v, std::byte* rehearsal) {
    const Layer& shape = cache_.layers_[layer];
    const Sequence& sequence = *part.sequence;
    const LayerPages& pages = sequence.layers[layer];
    const HeadPages& tables = pages.heads[head];
    const ArenaView arena = cache_.arena_->view();
    const BufferLayout k_layout = dense(options_.k, shape.kv_heads, shape.format.k_dim);
    const BufferLayout v_layout = dense(options_.v, shape.kv_heads, shape.format.v_dim);
    const int64_t unit = bytes_of(k_layout.dtype);
    StoreParams store = {};
    store.format = &shape.format;
    store.dtype = k_layout.dtype;
    store.k_stride = k_layout.token_stride;
    store.v_stride = v_layout.token_stride;
    store.saturate = cache_.saturate_;
    const int64_t end = sequence.length + part.count;
    for (int64_t index = sequence.length; index < end; index += store.tokens) {
        store.sinks = index < shape.rule.sinks;
        if (store.sinks) {
            store.record = arena.at(tables.sinks, shape.format.sink_bytes);
            store.first_slot = index;
            store.tokens = std::min(end, shape.rule.sinks) - index;
        } else {
            const int64_t page = shape.rule.page_of(index);
            store.record = arena.at(tables.window[size_t(page - pages.state.first_window)].record, shape.format.window_bytes);
            store.first_slot = index - shape.rule.page_start(page);
            store.tokens = std::min<int64_t>(page_tokens - store.first_slot, end - index);
        }
        if (rehearsal) store.record = rehearsal;
        const int64_t row = part.first_row + index - sequence.length;
        store.k = static_cast<const std::byte*>(k) + (row * k_layout.token_stride + int64_t(head) * k_layout.head_stride) * unit;
        store.v = static_cast<const std::byte*>(v) + (row * v_layout.token_stride + int64_t(head) * v_layout.head_stride) * unit;
        const int64_t bad = cache_.kernels_->store(store);
        if (bad >= 0) return index - sequence.length + bad;
    }
    return -1;
}

// Codes of the pages that the step's last token leaves behind the window.
void Step::quantize_pages(size_t layer, size_t b, size_t head) {
    const Layer& shape = cache_.layers_[layer];
    const Sequence& sequence = *sequences_[b].sequence;
    LayerPages& pages = sequences_[b].sequence->layers[layer];
    HeadPages& tables = pages.heads[head];
    const ArenaView arena = cache_.arena_->view();
    const int64_t coded_end = settle(shape.rule, pages.state, sequence.length + sequences_[b].count).coded_end;
    for (int64_t page = pages.state.coded_end; page < coded_end; page++) {
        const PageEntry& window = tables.window[size_t(page - pages.state.first_window)];
        const size_t e = size_t(page - pages.state.first_coded);
        if (shape.rule.lossless) {
            tables.coded.resize(e);  // an append that is tried again finds its pages here; begin reserved the capacity
            tables.coded.push_back(window);
            continue;
        }
        tables.coded[e].live = window.live;
        QuantizeParams params = {};
        params.format = &shape.format;
        params.window = arena.at(window.record, shape.format.window_bytes);
        params.codes = arena.at(tables.coded[e].record, shape.format.code_bytes);
        cache_.kernels_->quantize(params);
        cache_.counters_.pages_quantized++;
    }
}

Status Step::run_append(size_t layer, const void* k, const void* v, bool rehearse) {
    const int64_t heads = cache_.layers_[layer].kv_heads;
    std::atomic<int64_t> first_bad{LLONG_MAX};  // row * heads + head: the same one whichever thread finds it
    auto job = [&](int64_t i, std::byte* scratch) {
        const size_t b = size_t(i / heads), head = size_t(i % heads);
        if (sequences_[b].count == 0) return;
        const int64_t bad = store_tokens(layer, sequences_[b], head, k, v, rehearse ? scratch : nullptr);
        if (bad < 0) {
            if (!rehearse) quantize_pages(layer, b, head);
            return;
        }
        const int64_t found = (sequences_[b].first_row + bad) * heads + int64_t(head);
        for (int64_t seen = first_bad; found < seen && !first_bad.compare_exchange_weak(seen, found);) {
        }
    };
    cache_.pool_->run(int64_t(sequences_.size()) * heads, scratch_, job);
    if (first_bad == LLONG_MAX) return {};
    const LayerFormat& format = cache_.layers_[layer].format;
    const int64_t token = first_bad / heads, head = first_bad % heads;
    return fail(Code::nonfinite, "append: layer ", int64_t(layer), ", token ", token, " of the step, kv head ", head, ": keys reach ",
                reach_of_row(k, token, head, format.k_dim, dense(options_.k, heads, format.k_dim)), ", values ",
                reach_of_row(v, token, head, format.v_dim, dense(options_.v, heads, format.v_dim)),
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
    // Taking the staging over destroys what another layer left there: that must not happen in a call that fails.
    const Staging& staging = staging_[staging_of_[size_t(layer)]];
    if (!staging.records.empty() && staging.owner != -1 && staging.owner != layer) KVC_TRY(run_append(size_t(layer), k, v, true));
    place_staging(size_t(layer));
    KVC_TRY(run_append(size_t(layer), k, v, false));
    state.appended = true;
    return {};
}

}  // namespace kvc

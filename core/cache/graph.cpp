// Graphs: their size, and which steps may name them.
#include "core/cache/graph.h"

#include <algorithm>

#include "core/base/size.h"
#include "core/cache/cache.h"

namespace kvc {
namespace {

constexpr int64_t length_limit = int64_t{1} << 40, attends_limit = int64_t{1} << 16, slots_limit = 64, default_slots = 4;

Status check_request(const GraphRequest& request) {
    const auto ranged = [](const char* what, int64_t value, int64_t low, int64_t high) {
        if (value >= low && value <= high) return Status{};
        return fail(Code::argument, "graph_create: ", what, " ", value, " is out of range (", low, " .. ", high, ")");
    };
    KVC_TRY(ranged("max_tokens", request.most_tokens, 1, length_limit));
    KVC_TRY(ranged("attends", request.attends, 0, attends_limit));
    KVC_TRY(ranged("slots", request.slots, 0, slots_limit));
    for (int64_t count : request.counts)
        KVC_TRY(ranged("token count", count, 0, request.most_tokens));
    const auto some = [](int64_t count) { return count > 0; };
    if (std::none_of(request.counts.begin(), request.counts.end(), some))
        return fail(Code::argument, "graph_create: a step of no tokens");
    return {};
}

// Sums and products of one layer's jobs; what overflows is more than any device has.
struct LayerSizes {
    Size stores = 0, codes = 0, tiles = 0, states = 0;
};

LayerSizes sizes_of(const Layer& layer, const GraphRequest& request, int64_t splits) {
    LayerSizes sizes;
    for (int64_t count : request.counts) {
        if (count == 0) continue;
        StepSequence part;
        part.count = count;
        const int64_t rows = round_up(count, std::min<int64_t>(count, page_tokens));
        sizes.stores = sizes.stores + Size(ceil_div(count, page_tokens) + 2) * layer.kv_heads;
        sizes.codes = sizes.codes + Size(ceil_div(count, page_tokens)) * layer.kv_heads;
        sizes.tiles = sizes.tiles + tiles_bound(part);
        sizes.states = sizes.states + Size(rows) * splits * layer.q_heads * (layer.format.v_dim + 2);
    }
    return sizes;
}

// Pages that a head's tables hold during a step, at most.
int64_t pages_held(const PageRule& rule, int64_t most_tokens, int64_t most_count) {
    const int64_t pages = rule.pages(most_tokens);
    return rule.sliding_window == 0
               ? pages
               : std::min(pages, ceil_div(std::min(rule.sliding_window, most_tokens) + most_count, page_tokens) + rule.spare + 3);
}

Result<GraphLayer> graph_layer(const Layer& layer, const GraphRequest& request, bool turns, Size* states) {
    const int64_t most_count = *std::max_element(request.counts.begin(), request.counts.end());
    const int64_t ranges = std::max<int64_t>(1, ceil_div(layer.rule.pages(request.most_tokens), split_pages));
    const LayerSizes sizes = sizes_of(layer, request, ranges * layer.rungs());
    const Size items = sizes.tiles * layer.kv_heads * ranges;
    const Size entries = sizes.tiles * layer.kv_heads * layer.rungs() * pages_held(layer.rule, request.most_tokens, most_count);
    if (!sizes.stores.valid() || !items.valid() || !entries.valid() || !sizes.states.valid())
        return fail(Code::no_memory, "graph_create: tables for ", request.most_tokens, " tokens are beyond 2^63 bytes");
    if (states->value() < sizes.states.value()) *states = sizes.states;
    GraphLayer out;
    out.store_jobs = sizes.stores.value();
    out.quantize_jobs = layer.rule.lossless ? 0 : sizes.codes.value();
    out.tiles = sizes.tiles.value();
    out.items = items.value();
    out.rungs = layer.rungs();
    out.tokens = std::min<int64_t>(most_count, page_tokens);
    out.entries = entries.value();
    out.q_heads = layer.q_heads;
    out.rope_pairs = turns ? int64_t(layer.rope_frequencies.size()) : 0;
    return out;
}

bool alike(const BufferLayout& a, const BufferLayout& b) {
    return a.dtype == b.dtype && a.token_stride == b.token_stride && a.head_stride == b.head_stride;
}

}  // namespace

// What a step cannot do on the device alone, a graph cannot hold.
Status Cache::check_graph_kind() const {
    const auto refused = [](const auto&... why) { return fail(Code::unsupported, "graph_create: ", why...); };
    if (!device_) return refused("the cache is on the host, where no launches can be captured");
    if (rope_.in_cache && !rope_.keys_before) return refused("in-cache positions of keys after RoPE look at queries on the host");
    if (policy_ && policy_.policy->needs_attend())
        return refused("policy ", policy_.name(), " needs attention mass or queries, which the host takes in");
    if (policy_.merges()) return refused("policy ", policy_.name(), " merges tokens, for whose counts a graph has no room");
    return {};
}

Result<std::unique_ptr<Graph>> Cache::create_graph(GraphRequest request) {
    KVC_TRY(check_request(request));
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(check_graph_kind());
    GraphShape shape;
    Size states = 0;
    for (const Layer& layer : layers_) {
        Result<GraphLayer> sized = graph_layer(layer, request, rope_.keys_before, &states);
        if (!sized.ok()) return sized.status();
        shape.layers.push_back(*sized);
    }
    shape.attends = request.attends == 0 ? int64_t(layers_.size()) : request.attends;
    shape.state_floats = states.value();
    shape.slabs = arena_->slab_count_limit();
    shape.slots = request.slots == 0 ? default_slots : request.slots;
    auto graph = std::make_unique<Graph>(*this, std::move(request));
    Result<std::unique_ptr<DeviceGraph>> made = device_->create_graph(shape);
    if (!made.ok()) {
        if (made.status().code == Code::device) arena_->note_fault(made.status());
        return made.status();
    }
    graph->device_ = std::move(*made);
    return graph;
}

Status Cache::retire_graph(Graph& graph) {
    Result<Exclusive> lock = exclusive_for_release();
    if (!lock.ok()) return lock.status();
    if (graph.in_step_) return fail(Code::busy, "graph_destroy: the graph belongs to an open step");
    if (graph.retired_) return fail(Code::handle, "graph_destroy: not a live graph");
    graph.retired_ = true;
    return {};
}

Status Graph::check_options(const StepOptions& o) const {
    const StepOptions& captured = options_;
    if (!alike(o.k, captured.k) || !alike(o.v, captured.v))
        return fail(Code::capture, "step: k or v differ in type or strides from those captured");
    if (!alike(o.q, captured.q) || !alike(o.out, captured.out))
        return fail(Code::capture, "step: q or out differ in type or strides from those captured");
    if (o.strict != captured.strict) return fail(Code::capture, "step: strict differs from the captured step's");
    if (o.partial_commit != captured.partial_commit)
        return fail(Code::capture, "step: partial_commit differs from the captured step's");
    return {};
}

// Under the exclusive lock; changes nothing. captures: whether the step is to be recorded.
Status Cache::check_graph_step(std::span<const int64_t> ids, std::span<const int64_t> counts, const StepOptions& options,
                               bool* captures) const {
    Graph& graph = *options.graph;
    if (&graph.cache_ != this) return fail(Code::argument, "step: the graph is of another cache");
    if (graph.retired_) return fail(Code::handle, "step: not a live graph");
    if (graph.in_step_) return fail(Code::busy, "step: the graph belongs to an open step");
    if (!options.device_buffers) return fail(Code::argument, "step: buffers of a graph lie on the device (options.buffers)");
    if (!options.stream) return fail(Code::argument, "step: a graph needs the stream that it is captured or launched on");
    if (options.accumulate) return fail(Code::unsupported, "step: a graph cannot hold attention mass, which the host takes in");
    const std::vector<int64_t>& captured = graph.request_.counts;
    if (counts.size() != captured.size()) {
        return fail(Code::capture, "step: ", int64_t(counts.size()), " sequences, and the graph is for ", int64_t(captured.size()));
    }
    for (size_t b = 0; b < counts.size(); b++) {
        if (counts[b] == captured[b]) continue;
        return fail(Code::capture, "step: ", counts[b], " tokens of entry ", int64_t(b), ", and the graph is for ", captured[b]);
    }
    const Result<bool> capturing = graph.device_->is_capturing(options.stream);
    if (!capturing.ok()) return capturing.status();
    *captures = *capturing;
    return *captures ? Status{} : check_replay(ids, counts, options);
}

Status Cache::check_replay(std::span<const int64_t> ids, std::span<const int64_t> counts, const StepOptions& options) const {
    const Graph& graph = *options.graph;
    if (graph.calls_.empty())
        return fail(Code::capture, "step: the graph holds no captured step, and the stream is not being captured");
    KVC_TRY(graph.check_options(options));
    for (const GraphCall& call : graph.calls_) {
        const bool there = !sink_logits_[call.layer].empty();
        if (call.is_append || call.request.partial || call.sink_logits == there) continue;
        return fail(Code::capture, "step: layer ", int64_t(call.layer), call.sink_logits ? " had" : " had no",
                    " sink logits when it was captured");
    }
    for (size_t b = 0; b < ids.size(); b++) {
        Result<Sequence*> sequence = require_idle(ids[b]);
        if (!sequence.ok()) return sequence.status();
        const Sequence& s = **sequence;
        const int64_t most = graph.request_.most_tokens;
        if (s.length + counts[b] > most)
            return fail(Code::capture, "step: sequence ", ids[b], " would have ", s.length + counts[b],
                        " tokens, and the graph is for ", most);
        if (counts[b] > 0 && !options.strict && s.length < s.prompt_end) {
            return fail(Code::capture, "step: queries of sequence ", ids[b],
                        " are of the prompt class (kvc_seq_prompt_set), and a graph "
                        "has decode kernels alone (or strict)");
        }
        for (const LayerPages& pages : s.layers) {
            const auto merged = [](const HeadPages& head) { return !head.counts.empty(); };
            if (std::any_of(pages.heads.begin(), pages.heads.end(), merged))
                return fail(Code::capture, "step: sequence ", ids[b], " holds merged tokens, for whose counts a graph has no room");
        }
    }
    const Result<bool> ready = graph.device_->ready();
    if (!ready.ok()) return ready.status();
    return *ready ? Status{}
                  : fail(Code::again, "step: the tables of ", graph.request_.slots == 0 ? default_slots : graph.request_.slots,
                         " steps of the graph are still on their way to the device");
}

}  // namespace kvc

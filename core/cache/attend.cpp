// Attend: tiles of queries against pages, in rounds that fit the scratch; then merge, write and, on request, mass.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/attend/positions.h"
#include "core/cache/buffer.h"
#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {

struct Step::AttendCall {
    size_t layer;
    const Layer& shape;
    const AttendRequest& request;
    std::array<AttendParams, rung_limit> params;  // of each rung
    AttendParams turned_params;                   // of items whose queries are turned_q
    LayerQuery query;
    BufferLayout out;
    const float* sink_logits;  // [q_heads] or nullptr
};

const AttendParams& Step::params_of(const AttendCall& call, size_t item) const {
    return attend_.item_turned[item] ? call.turned_params : call.params[attend_.item_rung[item]];
}

// The coded pages of a layer with a ladder, sorted by their forms: kernels read one form at a time.
void Step::sort_rungs(const AttendCall& call) {
    const int64_t rungs = call.shape.rungs();
    if (rungs == 1) return;
    size_t at = 0;
    for (size_t b = 0; b < sequences_.size(); b++) {
        attend_.rung_offset[b] = int64_t(at);
        for (const HeadPages& head : sequences_[b].sequence->layers[call.layer].heads) {
            for (int64_t rung = 0; rung < rungs; rung++) {
                for (const PageEntry& entry : head.coded) {
                    const bool here = entry.record && cache_.rung_of(call.layer, entry.record) == rung;
                    attend_.rung_tables[at++] = here ? entry : PageEntry{};
                }
            }
        }
    }
}

void Step::attend_round(const AttendCall& call, std::span<const QueryTile> tiles) {
    attend_.items.clear();
    attend_.item_sequence.clear();
    attend_.item_head.clear();
    attend_.item_turned.clear();
    attend_.item_rung.clear();
    attend_.item_entry.clear();
    for (const QueryTile& tile : tiles) {
        const StepSequence& part = sequences_[size_t(tile.b)];
        plan_items(tile, part, part.sequence->layers[call.layer], call.query, attend_.states.data(), attend_);
    }
    auto job = [&](int64_t i, std::byte* scratch) {
        cache_.kernels_->attend(params_of(call, size_t(i)), attend_.items[size_t(i)], scratch);
    };
    cache_.pool_->run(int64_t(attend_.items.size()), scratch_, job);
    finish_rows(call, tiles);
    if (options_.accumulate) add_mass(call);
}

// In-cache positions of keys after RoPE: the queries that meet the sinks, turned back by each tile's and head's gap.
void Step::turn_sink_queries(const AttendCall& call, const Rope& rope) {
    const int64_t k_dim = call.shape.format.k_dim, group = call.shape.group(), q_heads = call.shape.q_heads;
    for (const QueryTile& tile : attend_.tiles) {
        const StepSequence& part = sequences_[size_t(tile.b)];
        const LayerPages& pages = part.sequence->layers[call.layer];
        const int64_t row = part.first_row + tile.first - part.sequence->length;
        for (int64_t h = 0; h < q_heads; h++) {
            const int64_t gap = gap_behind_sinks(pages, size_t(h / group), call.shape.rule, part.sequence->length, tile.first_kept);
            const std::byte* q = call.query.q + row * call.query.q_token_bytes + h * call.query.q_head_bytes;
            turn_queries(rope, gap, q, call.params[0].q_dtype, call.params[0].q_token_stride, tile.count, k_dim,
                         attend_.turned_q.data() + (row * q_heads + h) * k_dim, q_heads * k_dim);
        }
    }
}

// Merges the splits of each row and writes it to the caller's buffer.
void Step::finish_rows(const AttendCall& call, std::span<const QueryTile> tiles) {
    const int64_t q_heads = call.shape.q_heads;
    const int64_t row_floats = call.shape.format.v_dim + 2;
    const int64_t unit = bytes_of(call.out.dtype);
    auto job = [&](int64_t i, std::byte*) {
        const QueryTile& tile = tiles[size_t(i)];
        const StepSequence& part = sequences_[size_t(tile.b)];
        FinishParams finish = {};
        finish.format = &call.shape.format;
        finish.splits = tile.splits;
        finish.split_stride = tile.count * q_heads * row_floats;
        finish.out_dtype = call.out.dtype;
        for (int64_t t = 0; t < tile.count; t++) {
            const int64_t row = part.first_row + tile.first + t - part.sequence->length;
            for (int64_t h = 0; h < q_heads; h++) {
                finish.states = attend_.states.data() + tile.state_offset + (t * q_heads + h) * row_floats;
                finish.sink_logit = call.sink_logits ? call.sink_logits + h : nullptr;
                finish.out =
                    static_cast<std::byte*>(call.request.out) + (row * call.out.token_stride + h * call.out.head_stride) * unit;
                finish.out_lse = call.request.out_lse ? call.request.out_lse + row * q_heads + h : nullptr;
                finish.out_full_lse = options_.accumulate ? attend_.lse.data() + row * q_heads + h : nullptr;
                cache_.kernels_->finish(finish);
            }
        }
    };
    cache_.pool_->run(int64_t(tiles.size()), scratch_, job);
}

// A second pass over the keys of the round, one job per (sequence, kv head) so that no two threads share a counter.
void Step::add_mass(const AttendCall& call) {
    const int64_t kv_heads = call.shape.kv_heads, q_heads = call.shape.q_heads;
    auto job = [&](int64_t i, std::byte* scratch) {
        const StepSequence& part = sequences_[size_t(i / kv_heads)];
        const LayerPages& pages = part.sequence->layers[call.layer];
        const HeadPages& head = pages.heads[size_t(i % kv_heads)];
        HeadMass& mass = layers_[call.layer].mass[size_t(i)];
        for (size_t j = 0; j < attend_.items.size(); j++) {
            if (attend_.item_sequence[j] != i / kv_heads || attend_.item_head[j] != i % kv_heads) continue;
            MassItem item = {};
            item.item = attend_.items[j];
            const int64_t index = item.item.first_position - part.sequence->first_position;
            if (!part.observation.counts(index)) continue;
            const int64_t first = index - part.sequence->length;
            item.lse = attend_.lse.data() + (part.first_row + first) * q_heads + i % kv_heads * call.shape.group();
            item.lse_token_stride = q_heads;
            item.sinks = mass.sinks.data();
            item.coded = item.item.n_coded ? mass.coded.data() + attend_.item_entry[j] * page_tokens : nullptr;
            item.window = item.item.n_window ? mass.window.data() + (item.item.window - head.window.data()) * page_tokens : nullptr;
            cache_.kernels_->mass(params_of(call, j), item, scratch);
        }
    };
    cache_.pool_->run(int64_t(sequences_.size()) * kv_heads, scratch_, job);
}

namespace {

Status check_request(const Layer& shape, const AttendRequest& request, int64_t tokens, const StepOptions& options) {
    const int64_t q_heads = shape.q_heads, k_dim = shape.format.k_dim, v_dim = shape.format.v_dim;
    KVC_TRY(check_buffer("attend: q", request.q, request.q_bytes, tokens, q_heads, k_dim, dense(options.q, q_heads, k_dim)));
    KVC_TRY(check_buffer("attend: out", request.out, request.out_bytes, tokens, q_heads, v_dim, dense(options.out, q_heads, v_dim)));
    KVC_TRY(check_rows_apart("attend: out", tokens, q_heads, v_dim, dense(options.out, q_heads, v_dim)));
    if (request.out_lse)
        KVC_TRY(check_buffer("attend: lse", request.out_lse, request.lse_bytes, tokens, q_heads, 1, {Dtype::f32, q_heads, 1}));
    if (!std::isfinite(request.scale)) return fail(Code::argument, "attend: scale is not finite");
    if (!(request.soft_cap >= 0 && std::isfinite(request.soft_cap)))
        return fail(Code::argument, "attend: soft_cap ", double(request.soft_cap), " is negative or not finite");
    if (request.causal_offset > 0) return fail(Code::argument, "attend: causal_offset ", request.causal_offset, " is above 0");
    if (request.sliding_window < -1) return fail(Code::argument, "attend: sliding_window ", request.sliding_window, " is below -1");
    const int64_t held = shape.rule.sliding_window;
    if (held > 0 && (request.sliding_window == -1 || request.sliding_window > held)) {
        return fail(Code::argument, "attend: sliding_window ", request.sliding_window, " is wider than the layer's ", held);
    }
    return {};
}

int64_t sliding_window_of(const Layer& shape, const AttendRequest& request) {
    const int64_t asked = request.sliding_window == 0 ? shape.rule.sliding_window : request.sliding_window;
    return asked <= 0 ? INT64_MAX : asked;
}

}  // namespace

Status Step::attend(int64_t layer, const AttendRequest& request) {
    std::lock_guard lock(mutex_);
    KVC_TRY(check_open("attend"));
    if (layer < 0 || layer >= int64_t(layers_.size())) {
        return fail(Code::argument, "attend: layer ", layer, " is out of range (layers = ", int64_t(layers_.size()), ")");
    }
    const Layer& shape = cache_.layers_[size_t(layer)];
    KVC_TRY(check_request(shape, request, tokens_, options_));
    if (!layers_[size_t(layer)].appended) return fail(Code::order, "attend: layer ", layer, " was not appended in this step");
    if (staging_lost(size_t(layer))) {
        return fail(Code::order, "attend: layer ", layer, "'s tokens left the staging when layer ",
                    staging_[staging_of_[size_t(layer)]].owner, " was appended");
    }
    const int64_t k_dim = shape.format.k_dim, group = shape.group();
    const BufferLayout q = dense(options_.q, shape.q_heads, k_dim);
    const std::vector<float>& logits = cache_.sink_logits_[size_t(layer)];
    AttendCall call = {size_t(layer),
                       shape,
                       request,
                       {},
                       {},
                       {},
                       dense(options_.out, shape.q_heads, shape.format.v_dim),
                       logits.empty() || request.partial ? nullptr : logits.data()};
    const float scale = request.scale == 0 ? 1.0f / std::sqrt(float(k_dim)) : request.scale;
    const int64_t sliding = sliding_window_of(shape, request);
    const RopeConfig& turning = cache_.rope_;
    const Rope rope = {shape.rope_frequencies.data(), int(shape.rope_frequencies.size() * 2), turning.interleaved};
    const bool turn_sinks = turning.in_cache && !turning.keys_before;
    call.params[0] = {&shape.format,
                      cache_.arena_->view(),
                      q.dtype,
                      q.token_stride,
                      q.head_stride,
                      group,
                      scale,
                      request.soft_cap,
                      sliding,
                      request.causal_offset,
                      turning.keys_before ? &rope : nullptr};
    for (int64_t r = 1; r < shape.rungs(); r++) {
        call.params[size_t(r)] = call.params[0];
        call.params[size_t(r)].format = &shape.rung(r);
    }
    call.turned_params = call.params[0];
    call.turned_params.q_dtype = Dtype::f32;
    call.turned_params.q_head_stride = k_dim;
    call.turned_params.q_token_stride = k_dim * shape.q_heads;
    call.query = {&shape.rule,
                  shape.kv_heads,
                  group,
                  shape.format.v_dim,
                  sliding,
                  k_dim,
                  static_cast<const std::byte*>(request.q),
                  q.token_stride * bytes_of(q.dtype),
                  q.head_stride * bytes_of(q.dtype),
                  turn_sinks,
                  turning.keys_before && turning.in_cache,
                  shape.rungs()};
    if (turning.keys_before) cache_.counters_.slow_calls++;
    plan_tiles(sequences_, shape.rule, call.layer, options_.strict, {turn_sinks, shape.rungs()}, attend_.tiles);
    sort_rungs(call);
    if (turn_sinks) turn_sink_queries(call, rope);
    run_rounds(call);
    if (cache_.policy_ && cache_.policy_.policy->traits.queries) observe_queries(size_t(layer), request.q, q);
    return {};
}

// As many tiles at a time as the states hold.
void Step::run_rounds(const AttendCall& call) {
    const Layer& shape = call.shape;
    const std::span<QueryTile> tiles(attend_.tiles);
    for (size_t first = 0, end = 0; first < tiles.size(); first = end) {
        int64_t floats = 0;
        for (end = first; end < tiles.size(); end++) {
            const int64_t more = tiles[end].state_floats(shape.q_heads, shape.format.v_dim);
            if (end > first && floats + more > int64_t(attend_.states.size())) break;
            tiles[end].state_offset = floats;
            floats += more;
        }
        attend_round(call, tiles.subspan(first, end - first));
    }
}

}  // namespace kvc

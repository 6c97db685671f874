// Attend: tiles of queries against pages, in rounds that fit the scratch; then merge, write and, on request, mass.
#include <algorithm>
#include <array>
#include <cassert>
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
    FinishCall finish;
};

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

Status Step::attend_round(const AttendCall& call, std::span<QueryTile> tiles) {
    attend_.items.clear();
    attend_.params.clear();
    attend_.item_entry.clear();
    for (QueryTile& tile : tiles) {
        const StepSequence& part = sequences_[size_t(tile.b)];
        tile.first_item = int64_t(attend_.items.size());
        plan_items(tile, part, part.sequence->layers[call.layer], call.query, {states_, page_sums_}, attend_);
    }
    KVC_TRY(executor_->attend(attend_.params, attend_.items));
    KVC_TRY(finish_rows(call, tiles));
    return options_.accumulate ? add_mass(call, tiles) : Status{};
}

// In-cache positions of keys after RoPE: the queries that meet the sinks, turned back by each tile's and head's gap.
Status Step::turn_sink_queries(AttendCall& call, const Rope& rope) {
    const int64_t k_dim = call.shape.format.k_dim, group = call.shape.group(), q_heads = call.shape.q_heads;
    for (const QueryTile& tile : attend_.tiles) {
        const StepSequence& part = sequences_[size_t(tile.b)];
        const LayerPages& pages = part.sequence->layers[call.layer];
        const int64_t row = part.first_row + tile.first - part.sequence->length;
        for (int64_t h = 0; h < q_heads; h++) {
            const int64_t gap = gap_behind_sinks(pages, size_t(h / group), call.shape.rule, part.sequence->length, tile.first_kept);
            const std::byte* q =
                static_cast<const std::byte*>(call.request.q) + row * call.query.q_token_bytes + h * call.query.q_head_bytes;
            turn_queries(rope, gap, q, call.params[0].q_dtype, call.params[0].q_token_stride, tile.count, k_dim,
                         attend_.turned_q.data() + (row * q_heads + h) * k_dim, q_heads * k_dim);
        }
    }
    const Result<const void*> turned = executor_->input(attend_.turned_q.data(), tokens_ * q_heads * k_dim * int64_t(sizeof(float)));
    if (!turned.ok()) return turned.status();
    call.query.turned_q = static_cast<const float*>(*turned);
    return {};
}

// Merges the splits of each row and writes it to the caller's buffer.
Status Step::finish_rows(const AttendCall& call, std::span<const QueryTile> tiles) {
    const int64_t row_floats = call.shape.format.v_dim + 2;
    attend_.finish.clear();
    for (const QueryTile& tile : tiles) {
        const StepSequence& part = sequences_[size_t(tile.b)];
        attend_.finish.push_back({states_ + tile.state_offset, tile.count, tile.splits, tile.count * call.shape.q_heads * row_floats,
                                  part.first_row + tile.first - part.sequence->length});
    }
    return executor_->finish(call.finish, attend_.finish);
}

// The items of one tile and kv head once more, with the counters of their pages.
void Step::plan_mass(const AttendCall& call, const QueryTile& tile, size_t head, int64_t counters) {
    const StepSequence& part = sequences_[size_t(tile.b)];
    const HeadPages& pages = part.sequence->layers[call.layer].heads[head];
    HeadMass& mass = layers_[call.layer].mass[size_t(tile.b * call.shape.kv_heads) + head];
    const int64_t row = part.first_row + tile.first - part.sequence->length;
    const int64_t of_page = by_pages_ ? 1 : page_tokens;  // counters
    for (int64_t split = 0; split < tile.splits; split++) {
        const size_t j = size_t(tile.first_item + int64_t(head) * tile.splits + split);
        MassItem item = {};
        item.item = attend_.items[j];
        item.lse = lse_ + row * call.shape.q_heads + int64_t(head) * call.shape.group();
        item.lse_token_stride = call.shape.q_heads;
        item.sinks = mass.sinks.data();
        item.coded = item.item.n_coded ? mass.coded.data() + attend_.item_entry[j] * of_page : nullptr;
        item.window = item.item.n_window ? mass.window.data() + (item.item.window - pages.window.data()) * of_page : nullptr;
        item.counters = counters;
        attend_.mass_items.push_back(item);
        attend_.mass_params.push_back(attend_.params[j]);
    }
}

// A second pass over the keys of the round, or over what attend left of their pages.
Status Step::add_mass(const AttendCall& call, std::span<const QueryTile> tiles) {
    attend_.mass_items.clear();
    attend_.mass_params.clear();
    int64_t counters = 0;
    for (size_t first = 0, end = 0; first < tiles.size(); first = end) {
        const auto other = [&](const QueryTile& tile) { return tile.b != tiles[first].b; };
        end = size_t(std::find_if(tiles.begin() + std::ptrdiff_t(first), tiles.end(), other) - tiles.begin());
        for (size_t head = 0; head < size_t(call.shape.kv_heads); head++) {
            const size_t before = attend_.mass_items.size();
            for (const QueryTile& tile : tiles.subspan(first, end - first)) {
                if (tile.observed) plan_mass(call, tile, head, counters);
            }
            if (attend_.mass_items.size() > before) counters++;
        }
    }
    return by_pages_ ? executor_->page_mass(call.shape.group(), attend_.mass_items)
                     : executor_->mass(attend_.mass_params, attend_.mass_items);
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

Rope rope_of(const Layer& shape, const RopeConfig& turning) {
    return {shape.rope_frequencies.data(), int(shape.rope_frequencies.size() * 2), turning.interleaved};
}

int64_t sliding_window_of(const Layer& shape, const AttendRequest& request) {
    const int64_t asked = request.sliding_window == 0 ? shape.rule.sliding_window : request.sliding_window;
    return asked <= 0 ? INT64_MAX : asked;
}

}  // namespace

Status Step::attend(int64_t layer, const AttendRequest& request) {
    std::lock_guard lock(mutex_);
    KVC_TRY(check_open("attend"));
    KVC_TRY(cache_.arena_->fault());
    KVC_TRY(refuse_in_replay("attend"));
    if (layer < 0 || layer >= int64_t(layers_.size())) {
        return fail(Code::argument, "attend: layer ", layer, " is out of range (layers = ", int64_t(layers_.size()), ")");
    }
    const Layer& shape = cache_.layers_[size_t(layer)];
    KVC_TRY(check_request(shape, request, tokens_, options_));
    if (!layers_[size_t(layer)].appended) return fail(Code::order, "attend: layer ", layer, " was not appended in this step");
    if (recording_) return record_attend(size_t(layer), request);
    if (staging_lost(size_t(layer))) {
        return fail(Code::order, "attend: layer ", layer, "'s tokens left the staging when layer ",
                    staging_[staging_of_[size_t(layer)]].owner, " was appended");
    }
    KVC_TRY(noted(run_attend(size_t(layer), request)));
    count_work();
    return {};
}

// Parameters of each rung's items, and of those whose queries are turned_q.
void Step::set_params(AttendCall& call, const BufferLayout& q, const Rope& rope, int64_t sliding) const {
    const Layer& shape = call.shape;
    const int64_t k_dim = shape.format.k_dim;
    call.params[0] = {&shape.format,
                      cache_.arena_->view(),
                      q.dtype,
                      q.token_stride,
                      q.head_stride,
                      shape.group(),
                      call.request.scale == 0 ? 1.0f / std::sqrt(float(k_dim)) : call.request.scale,
                      call.request.soft_cap,
                      sliding,
                      call.request.causal_offset,
                      cache_.rope_.keys_before ? &rope : nullptr};
    for (int64_t r = 1; r < shape.rungs(); r++) {
        call.params[size_t(r)] = call.params[0];
        call.params[size_t(r)].format = &shape.rung(r);
    }
    call.turned_params = call.params[0];
    call.turned_params.q_dtype = Dtype::f32;
    call.turned_params.q_head_stride = k_dim;
    call.turned_params.q_token_stride = k_dim * shape.q_heads;
}

Status Step::run_attend(size_t layer, const AttendRequest& request) {
    const Layer& shape = cache_.layers_[layer];
    const BufferLayout q = dense(options_.q, shape.q_heads, shape.format.k_dim);
    BufferLayout out_layout = dense(options_.out, shape.q_heads, shape.format.v_dim);
    executor_->start(layer);
    const Result<const void*> queries = bring(request.q, shape.q_heads, shape.format.k_dim, q);
    if (!queries.ok()) return queries.status();
    const bool gathers = gathers_out(layer);
    if (gathers) out_layout = dense({options_.out.dtype}, shape.q_heads, shape.format.v_dim);
    const Result<void*> out = executor_->output(gathers ? out_rows_.data() : request.out,
                                                reach_of_buffer(tokens_, shape.q_heads, shape.format.v_dim, out_layout).value());
    if (!out.ok()) return out.status();
    const int64_t lse_bytes = reach_of_buffer(tokens_, shape.q_heads, 1, dense({Dtype::f32}, shape.q_heads, 1)).value();
    const Result<void*> out_lse = request.out_lse ? executor_->output(request.out_lse, lse_bytes) : Result<void*>(nullptr);
    if (!out_lse.ok()) return out_lse.status();
    AttendCall call = {layer, shape, request, {}, {}, {}, {}};
    const Rope rope = rope_of(shape, cache_.rope_);
    set_call(call, *queries, *out, static_cast<float*>(*out_lse), rope);
    if (gathers) call.finish.out_token_stride = out_layout.token_stride, call.finish.out_head_stride = out_layout.head_stride;
    const bool turn_sinks = call.query.turn_sinks;
    plan_tiles(sequences_, shape.rule, layer, options_.strict, {turn_sinks, shape.rungs()}, attend_.tiles);
    sort_rungs(call);
    if (turn_sinks) KVC_TRY(turn_sink_queries(call, rope));
    KVC_TRY(run_rounds(call));
    if (cache_.rope_.keys_before) slow_calls_++;
    if (cache_.policy_ && cache_.policy_.policy->traits.queries) observe_queries(layer, request.q, q);
    return deliver(call, gathers);
}

// A capture: an item of each rung and a tile stand for all that there can be.
Status Step::record_attend(size_t layer, const AttendRequest& request) {
    const Layer& shape = cache_.layers_[layer];
    AttendCall call = {layer, shape, request, {}, {}, {}, {}};
    const Rope rope = rope_of(shape, cache_.rope_);
    set_call(call, request.q, request.out, request.out_lse, rope);
    const std::array<AttendItem, rung_limit> items = {};
    std::array<const AttendParams*, rung_limit> params = {};
    for (size_t r = 0; r < size_t(shape.rungs()); r++)
        params[r] = &call.params[r];
    const FinishTile tile = {};
    recorded_.reserve(recorded_.size() + 1);
    executor_->start(layer);
    KVC_TRY(executor_->attend({params.data(), size_t(shape.rungs())}, {items.data(), size_t(shape.rungs())}));
    KVC_TRY(executor_->finish(call.finish, {&tile, 1}));
    recorded_.push_back({layer, false, nullptr, nullptr, request, call.finish.sink_logits != nullptr});
    return {};
}

// What a call asks for; where its buffers lie and `rope` stays is the caller's to say.
void Step::set_call(AttendCall& call, const void* queries, void* out, float* out_lse, const Rope& rope) const {
    const Layer& shape = call.shape;
    const AttendRequest& request = call.request;
    const BufferLayout q = dense(options_.q, shape.q_heads, shape.format.k_dim);
    const BufferLayout out_layout = dense(options_.out, shape.q_heads, shape.format.v_dim);
    const std::vector<float>& logits = cache_.sink_logits_[call.layer];
    const int64_t sliding = sliding_window_of(shape, request);
    const RopeConfig& turning = cache_.rope_;
    const bool turn_sinks = turning.in_cache && !turning.keys_before;
    set_params(call, q, rope, sliding);
    call.query = {&shape.rule,
                  shape.kv_heads,
                  shape.group(),
                  shape.format.v_dim,
                  sliding,
                  shape.format.k_dim,
                  static_cast<const std::byte*>(queries),
                  q.token_stride * bytes_of(q.dtype),
                  q.head_stride * bytes_of(q.dtype),
                  turn_sinks,
                  turning.keys_before && turning.in_cache,
                  shape.rungs(),
                  call.params.data(),
                  &call.turned_params,
                  nullptr};
    call.finish = {&shape.format,          shape.q_heads, logits.empty() || request.partial ? nullptr : logits.data(),
                   out_layout.dtype,       out,           out_layout.token_stride,
                   out_layout.head_stride, out_lse,       options_.accumulate ? lse_ : nullptr};
}

// Results of a device to the caller's memory.
Status Step::deliver(const AttendCall& call, bool gathered) {
    KVC_TRY(executor_->deliver());
    if (!cache_.device_ || options_.device_buffers) return {};
    const Layer& shape = call.shape;
    const int64_t v_dim = shape.format.v_dim, unit = bytes_of(options_.out.dtype);
    const BufferLayout rows = dense({options_.out.dtype}, shape.q_heads, v_dim), lse = dense({Dtype::f32}, shape.q_heads, 1);
    cache_.counters_.bytes_staged += reach_of_buffer(tokens_, shape.q_heads, v_dim, rows).value();
    if (call.request.out_lse) cache_.counters_.bytes_staged += reach_of_buffer(tokens_, shape.q_heads, 1, lse).value();
    if (!gathered) return {};
    const BufferLayout to = dense(options_.out, shape.q_heads, v_dim);
    const std::byte* row = out_rows_.data();
    for (int64_t t = 0; t < tokens_; t++) {
        for (int64_t h = 0; h < shape.q_heads; h++, row += v_dim * unit) {
            std::byte* const at = static_cast<std::byte*>(call.request.out) + (t * to.token_stride + h * to.head_stride) * unit;
            std::copy_n(row, v_dim * unit, at);
        }
    }
    return {};
}

// As many tiles at a time as the states and the page sums hold.
Status Step::run_rounds(const AttendCall& call) {
    const Layer& shape = call.shape;
    const std::span<QueryTile> tiles(attend_.tiles);
    for (size_t first = 0, end = 0; first < tiles.size(); first = end) {
        int64_t floats = 0, sums = 0;
        for (end = first; end < tiles.size(); end++) {
            const int64_t more = tiles[end].state_floats(shape.q_heads, shape.format.v_dim);
            const int64_t more_sums = by_pages_ ? tiles[end].page_sums(shape.q_heads) : 0;
            if (end > first && (floats + more > state_floats_ || sums + more_sums > sum_room_)) break;
            tiles[end].state_offset = floats;
            tiles[end].sums_offset = sums;
            floats += more;
            sums += more_sums;
        }
        assert(floats <= state_floats_ && sums <= sum_room_);
        KVC_TRY(attend_round(call, tiles.subspan(first, end - first)));
    }
    return {};
}

}  // namespace kvc

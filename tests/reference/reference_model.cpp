#include "tests/reference/reference_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/reference/sixteen_bits.h"

namespace kvc_reference {

ReferenceModel::ReferenceModel(std::vector<LayerShape> layers, RopeRules rope, int64_t spare_pages, bool saturate)
    : sink_logits(layers.size()), shapes_(std::move(layers)), rope_(rope), spare_pages_(spare_pages), saturate_(saturate) {}

SequenceState* ReferenceModel::find(int64_t id) {
    auto found = sequences_.find(id);
    return found == sequences_.end() ? nullptr : &found->second;
}
const SequenceState* ReferenceModel::find(int64_t id) const { return const_cast<ReferenceModel*>(this)->find(id); }
StepState* ReferenceModel::find_step(int64_t id) {
    auto found = steps_.find(id);
    return found == steps_.end() || !found->second.open ? nullptr : &found->second;
}

int64_t ReferenceModel::open_steps() const {
    return std::count_if(steps_.begin(), steps_.end(), [](const auto& step) { return step.second.open; });
}

// ---- Sequences ----

int64_t ReferenceModel::create(int64_t first_position, int64_t prompt_length) {
    SequenceState s;
    s.first_position = first_position;
    s.prompt_end = first_position + prompt_length;
    for (const LayerShape& shape : shapes_) {
        LayerState layer;
        layer.heads.resize(static_cast<size_t>(shape.kv_heads));
        layer.origin = layer.base = layer.h = shape.codec.sinks;
        s.layers.push_back(std::move(layer));
    }
    sequences_[next_id_] = std::move(s);
    return next_id_++;
}

kvc_status ReferenceModel::destroy(int64_t id) {
    const SequenceState* s = find(id);
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    sequences_.erase(id);
    return KVC_OK;
}

kvc_status ReferenceModel::fork(int64_t id, int64_t length, bool inexact, int64_t* out) {
    const SequenceState* s = find(id);
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    SequenceState copy = *s;
    const kvc_status status = cut(copy, length, inexact);
    if (status != KVC_OK) return status;
    sequences_[next_id_] = std::move(copy);
    *out = next_id_++;
    return KVC_OK;
}

kvc_status ReferenceModel::truncate(int64_t id, int64_t length, bool inexact) {
    SequenceState* s = find(id);
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    return cut(*s, length, inexact);
}

bool ReferenceModel::seal(int64_t id) {
    SequenceState& s = *find(id);
    for (size_t l = 0; l < shapes_.size(); ++l) {
        const int64_t behind = s.length - shapes_[l].codec.sinks;
        if (shapes_[l].codec.coded() && (behind < 0 || behind % page_tokens != 0)) return false;
    }
    for (size_t l = 0; l < shapes_.size(); ++l)
        if (shapes_[l].codec.coded()) s.layers[l].base = s.layers[l].h = s.length;
    s.event_floor = s.length;
    return true;
}

int64_t ReferenceModel::coded_end(const LayerShape& shape, const LayerState& layer, int64_t n) {
    const int64_t f = layer.origin + page_tokens * (std::max<int64_t>(0, n - layer.origin - shape.codec.window) / page_tokens);
    return std::max(f, layer.base);
}

// A cut is exact where neither codes nor a sliding window have taken what its next query needs.
int64_t ReferenceModel::layer_floor(int64_t layer, const SequenceState& s) const {
    const LayerShape& shape = shapes_[layer];
    const LayerState& state = s.layers[layer];
    int64_t floor = state.held_from > 0 ? state.held_from + shape.sliding_window - 1 : 0;
    // Of what no query can see it does not matter in which form it is gone.
    if (shape.codec.coded() && state.h > std::max(state.held_from, shape.codec.sinks))
        floor = std::max(floor, state.h + shape.codec.window);
    return floor;
}

int64_t ReferenceModel::exact_floor(int64_t id) const {
    const SequenceState* s = find(id);
    int64_t floor = s->event_floor;
    for (size_t l = 0; l < shapes_.size(); ++l)
        floor = std::max(floor, layer_floor(static_cast<int64_t>(l), *s));
    return s->first_position + std::min(floor, s->length);
}

// length is a position. Nothing changes unless it can be done in all layers.
kvc_status ReferenceModel::cut(SequenceState& s, int64_t length, bool inexact) {
    const int64_t n = length - s.first_position;
    if (n < 0 || n > s.length) return KVC_E_RANGE;
    int64_t floor = s.event_floor;
    for (size_t l = 0; l < shapes_.size(); ++l)
        floor = std::max(floor, layer_floor(static_cast<int64_t>(l), s));
    const bool exact = n >= std::min(floor, s.length);
    if (!exact && !inexact) return KVC_E_RANGE;
    for (size_t l = 0; l < shapes_.size() && !exact; ++l) {
        const int64_t held = s.layers[l].held_from;
        if (held > 0 && n > shapes_[l].codec.sinks && n - shapes_[l].sliding_window + 1 < held) return KVC_E_RANGE;
    }
    for (size_t l = 0; l < shapes_.size(); ++l) {
        if (shapes_[l].codec.coded()) cut_layer(static_cast<int64_t>(l), s.layers[l], n);
        if (n <= shapes_[l].codec.sinks) s.layers[l].held_from = 0;  // no page is left: those that come again are held again
    }
    trim(s, n);
    if (!exact) s.cut_inexactly = true, s.event_floor = n;
    return KVC_OK;
}

// Below h the 16-bit rows are gone: whole pages stay codes, and the page that the cut goes through is decoded into 16 bits again.
void ReferenceModel::cut_layer(int64_t layer, LayerState& state, int64_t n) {
    const LayerShape& shape = shapes_[layer];
    const int64_t sinks = shape.codec.sinks;
    const int64_t page = n <= sinks ? sinks : sinks + (n - sinks) / page_tokens * page_tokens;
    for (std::vector<Row>& rows : state.heads)
        for (int64_t j = page; n < state.h && j < n && j >= sinks; ++j) {
            ensure_coded(layer, state, rows, j);
            Row& row = rows[j];
            const SeenToken token = seen_form(shape, row, true, 0);
            const auto decoded = [&](const PartCodec& codec, const float* from, int64_t dim) {
                std::vector<float> x(from, from + dim);
                if (codec.rotated) rotate_single(x);
                return *stored(codec, shape.codec.k.bf16, x.data(), dim, true);
            };
            row.k16 = decoded(shape.codec.k, token.k.value, shape.k_dim);
            row.v16 = decoded(shape.codec.v, token.v.value, shape.v_dim);
            if (row.live) continue;  // what was evicted leaves zeros behind, which later codes of the page are made from
            row.k16.assign(row.k16.size(), 0.0f), row.v16.assign(row.v16.size(), 0.0f);
        }
    state.base = std::min(std::max(state.base, state.h), page);
    state.h = std::min(state.h, std::max(state.base, coded_end(shape, state, n)));
}

// Forgets rows from n on, and the codes of pages that are no longer full (but those kept by an inexact cut, below base).
void ReferenceModel::trim(SequenceState& s, int64_t n) {
    for (LayerState& state : s.layers)
        for (std::vector<Row>& rows : state.heads) {
            if (static_cast<int64_t>(rows.size()) <= n) continue;
            rows.resize(static_cast<size_t>(n));
            const int64_t whole = state.origin + std::max<int64_t>(0, n - state.origin) / page_tokens * page_tokens;
            for (int64_t j = std::max(whole, state.origin); j < n; ++j)
                rows[j].k_page = rows[j].v_page = nullptr;
        }
    s.length = n;
}

// ---- Steps ----

kvc_status ReferenceModel::begin(const std::vector<int64_t>& ids, const std::vector<int64_t>& counts, bool partial, bool accumulate,
                                 int64_t* out) {
    for (int64_t id : ids) {
        const SequenceState* s = find(id);
        if (!s) return KVC_E_HANDLE;
        if (s->busy) return KVC_E_BUSY;
    }
    for (int64_t id : ids)
        find(id)->busy = true;
    StepState step;
    step.sequences = ids, step.counts = counts, step.partial_commit = partial, step.accumulate = accumulate;
    step.appended.resize(shapes_.size()), step.staged.resize(shapes_.size()), step.lost_staging.resize(shapes_.size());
    steps_[next_id_] = std::move(step);
    *out = next_id_++;
    return KVC_OK;
}

// A token as the 16-bit window stores it, or nothing if it cannot be stored.
std::optional<std::vector<float>> ReferenceModel::stored(const PartCodec& codec, bool bf16, const float* from, int64_t dim,
                                                         bool saturate) const {
    std::vector<float> x(from, from + dim);
    for (float value : x)
        if (!std::isfinite(value)) return std::nullopt;  // also when saturating: a rotation would make NaN of infinity
    if (codec.rotated) rotate_single(x);
    for (float& value : x) {
        const double rounded = bf16 ? round_to_bfloat(value) : round_to_half(value);
        if (std::isnan(rounded)) return std::nullopt;
        if (std::isinf(rounded) && !saturate) return std::nullopt;
        const double largest = bf16 ? 0x1.FEp127 : 65504.0;
        value = static_cast<float>(std::clamp(rounded, -largest, largest));
    }
    return x;
}

// Does a page begin and leave the 16-bit rows within a step of so many tokens?
bool ReferenceModel::passes_through(int64_t layer, const SequenceState& s, int64_t count) const {
    const LayerShape& shape = shapes_[layer];
    LayerState after = s.layers[layer];
    if (!shape.codec.coded() || count == 0) return false;
    settle_layer(layer, after, s.length + count);
    const int64_t begun = std::max<int64_t>(0, s.length - after.origin + page_tokens - 1) / page_tokens * page_tokens;
    return std::max(after.h, after.held_from) > after.origin + begun;
}

kvc_status ReferenceModel::append(int64_t id, int64_t layer, const std::vector<float>& k, const std::vector<float>& v) {
    StepState* step = find_step(id);
    if (!step) return KVC_E_HANDLE;
    if (layer < 0 || layer >= static_cast<int64_t>(shapes_.size())) return KVC_E_ARGUMENT;
    const size_t l = static_cast<size_t>(layer);
    if (step->appended[l]) return KVC_E_ORDER;
    const LayerShape& shape = shapes_[l];
    const bool bf16 = shape.codec.k.bf16;
    const int64_t tokens = std::accumulate(step->counts.begin(), step->counts.end(), int64_t{0});
    std::vector<Row> fresh;
    for (int64_t t = 0; t < tokens * shape.kv_heads; ++t) {
        auto k16 = stored(shape.codec.k, bf16, k.data() + t * shape.k_dim, shape.k_dim, saturate_);
        auto v16 = stored(shape.codec.v, bf16, v.data() + t * shape.v_dim, shape.v_dim, saturate_);
        if (!k16 || !v16) return KVC_E_NONFINITE;
        Row row;
        row.k16 = std::move(*k16), row.v16 = std::move(*v16);
        fresh.push_back(std::move(row));
    }
    bool staged = false;
    auto next = fresh.begin();
    for (size_t i = 0; i < step->sequences.size(); ++i) {
        SequenceState& s = *find(step->sequences[i]);
        LayerState& state = s.layers[l];
        for (int64_t t = 0; t < step->counts[i]; ++t)
            for (std::vector<Row>& rows : state.heads)
                rows.push_back(std::move(*next++));
        staged = staged || (!step->partial_commit && passes_through(layer, s, step->counts[i]));
    }
    // The staging of one layer is all there is (per size of its records): whoever used it before loses it.
    const auto row_size = [&](size_t other) { return shapes_[other].k_dim + shapes_[other].v_dim; };
    for (size_t other = 0; staged && other < shapes_.size(); ++other)
        if (step->staged[other] && row_size(other) == row_size(l)) step->lost_staging[other] = true;
    step->staged[l] = staged;
    step->appended[l] = true;
    return KVC_OK;
}

kvc_status ReferenceModel::commit(int64_t id, const std::vector<int64_t>* accepted) {
    StepState* step = find_step(id);
    if (!step) return KVC_E_HANDLE;
    const bool empty = std::accumulate(step->counts.begin(), step->counts.end(), int64_t{0}) == 0;
    for (bool done : step->appended)
        if (!done && !empty) return KVC_E_ORDER;
    for (size_t i = 0; i < step->sequences.size(); ++i) {
        SequenceState& s = *find(step->sequences[i]);
        const int64_t before = s.length;
        trim(s, s.length + (accepted ? (*accepted)[i] : step->counts[i]));
        for (LayerState& state : s.layers)
            for (std::vector<Row>& rows : state.heads)
                for (Row& row : rows) {
                    row.mass += row.pending_mass, row.mass_bound += row.pending_bound;
                    row.pending_mass = 0, row.pending_bound = 0;
                }
        if (step->accumulate && s.length > before) s.event_floor = std::max(s.event_floor, s.length);
        for (size_t l = 0; l < shapes_.size(); ++l)
            settle_layer(static_cast<int64_t>(l), s.layers[l], s.length);
        s.busy = false;
    }
    step->open = false;
    return KVC_OK;
}

kvc_status ReferenceModel::abort(int64_t id) {
    StepState* step = find_step(id);
    if (!step) return KVC_E_HANDLE;
    for (int64_t sequence : step->sequences) {
        SequenceState& s = *find(sequence);
        trim(s, s.length);
        for (LayerState& state : s.layers)
            for (std::vector<Row>& rows : state.heads)
                for (Row& row : rows)
                    row.pending_mass = 0, row.pending_bound = 0;
        s.busy = false;
    }
    step->open = false;
    return KVC_OK;
}

// What a grown sequence gives up: 16-bit rows below h, and what a sliding window has left behind.
void ReferenceModel::settle_layer(int64_t layer, LayerState& state, int64_t length) const {
    const LayerShape& shape = shapes_[layer];
    state.h = std::max(state.h, coded_end(shape, state, length) - page_tokens * spare_pages_);
    if (shape.sliding_window == 0) return;
    const int64_t spare = shape.codec.coded() ? page_tokens * spare_pages_ : 0;
    const int64_t unseen = length - shape.sliding_window + 1 - spare - state.origin;
    if (unseen >= page_tokens) state.held_from = std::max(state.held_from, state.origin + unseen / page_tokens * page_tokens);
}

// ---- Attend ----

SeenToken ReferenceModel::seen_form(const LayerShape& shape, const Row& row, bool coded, int64_t page) const {
    SeenToken token;
    token.page = page;
    token.k.value = row.k16.data(), token.v.value = row.v16.data();
    if (!coded) return token;
    const auto form = [](const CodedPage& p, size_t slot, int64_t dim) {
        const size_t at = slot * static_cast<size_t>(dim);
        if (p.scale.empty()) return Form{p.value.data() + at};
        return Form{p.value.data() + at, p.scale.data() + at, p.zero.data() + at, p.last};
    };
    token.k = form(*row.k_page, row.k_slot, shape.k_dim);
    token.v = form(*row.v_page, row.v_slot, shape.v_dim);
    return token;
}

void ReferenceModel::ensure_coded(int64_t layer, LayerState& state, std::vector<Row>& rows, int64_t index) const {
    if (rows[index].k_page) return;
    const LayerShape& shape = shapes_[layer];
    const int64_t base = state.origin + (index - state.origin) / page_tokens * page_tokens;
    std::vector<const float*> k, v;
    for (int64_t j = base; j < base + page_tokens; ++j) {
        k.push_back(rows.at(j).k16.data());
        v.push_back(rows.at(j).v16.data());
    }
    auto k_page = std::make_shared<const CodedPage>(encode(shape.codec.k, shape.k_dim, k));
    auto v_page = std::make_shared<const CodedPage>(encode(shape.codec.v, shape.v_dim, v));
    for (int64_t j = base; j < base + page_tokens; ++j) {
        Row& row = rows[j];
        row.k_page = k_page, row.v_page = v_page, row.k_slot = row.v_slot = static_cast<size_t>(j - base);
    }
}

// In-cache positions: how far the tokens behind the sinks have moved up, as a step finds them.
int64_t ReferenceModel::gap_behind_sinks(const SequenceState& s, int64_t layer, const std::vector<Row>& rows) const {
    const int64_t sinks = shapes_[layer].codec.sinks;
    int64_t first = sinks;
    while (first < s.length && !rows[first].live)
        ++first;
    return rope_.in_cache ? first - sinks : 0;
}

// How a query meets a key: by the distance of their positions, where kvc turns; keys after RoPE come turned by their true positions, so
// that only sinks are met at another distance.
void ReferenceModel::turn(SeenToken& token, const SequenceState& s, const LayerShape& shape, int64_t query, int64_t key,
                          int64_t gap) const {
    const bool sink = key < shape.codec.sinks;
    if (rope_.keys_before) {
        token.turned = true;
        token.distance = static_cast<double>(query - gap - (sink ? key : key - gap));
        token.positions = 2.0 * static_cast<double>(s.first_position + query);
    } else if (rope_.in_cache && sink && gap > 0) {
        token.turned = true;
        token.distance = static_cast<double>(-gap), token.positions = static_cast<double>(gap);
    }
}

Attention ReferenceModel::attend_one(SequenceState& s, int64_t layer, int64_t q_head, int64_t index, const float* q,
                                     const AttendRequest& request, bool accumulate) {
    const LayerShape& shape = shapes_[layer];
    LayerState& state = s.layers[layer];
    std::vector<Row>& rows = state.heads[q_head / (shape.q_heads / shape.kv_heads)];
    const int64_t window = request.sliding_window > 0 ? request.sliding_window : shape.sliding_window;
    const int64_t first = window > 0 ? std::max<int64_t>(0, index - window + 1) : 0;
    const int64_t end = coded_end(shape, state, index + 1);
    const int64_t gap = gap_behind_sinks(s, layer, rows);
    std::vector<SeenToken> seen;
    std::vector<Row*> seen_rows;
    for (int64_t j = first; j <= index + request.causal_offset; ++j) {
        Row& row = rows[j];
        if (!row.live) continue;
        const bool coded = shape.codec.coded() && j >= shape.codec.sinks && j < end;
        if (coded) ensure_coded(layer, state, rows, j);
        // A repack gathers tokens of any pages: after an eviction all count as one page, whose bound is the widest.
        seen.push_back(seen_form(shape, row, coded, s.evicted ? 0 : (j - state.origin) / page_tokens));
        turn(seen.back(), s, shape, index, j, gap);
        seen_rows.push_back(&row);
    }
    Query query;
    query.q = q, query.k_dim = shape.k_dim, query.v_dim = shape.v_dim;
    query.scale = request.scale != 0 ? request.scale : 1 / std::sqrt(static_cast<double>(shape.k_dim));
    query.soft_cap = request.soft_cap;
    query.rotate_k = shape.codec.k.rotated, query.rotate_v = shape.codec.v.rotated;
    query.planes = request.planes, query.product = request.product;
    query.frequencies = &shape.frequencies, query.interleaved = rope_.interleaved, query.turns_keys = rope_.keys_before;
    const std::vector<float>& logits = sink_logits[layer];
    if (!logits.empty() && !request.partial) query.has_sink = true, query.sink_logit = logits[q_head];
    Attention result = kvc_reference::attend(query, seen);
    for (size_t j = 0; accumulate && j < seen.size(); ++j) {
        seen_rows[j]->pending_mass += std::llrint(std::clamp(result.p[j], 0.0, 1.0) * 0x1p30);
        seen_rows[j]->pending_bound += result.p_bound[j] * 0x1p30 + 1.0;
    }
    return result;
}

kvc_status ReferenceModel::attend(int64_t id, int64_t layer, const std::vector<float>& q, const AttendRequest& request,
                                  std::vector<Attention>* out) {
    StepState* step = find_step(id);
    if (!step) return KVC_E_HANDLE;
    if (layer < 0 || layer >= static_cast<int64_t>(shapes_.size())) return KVC_E_ARGUMENT;
    const LayerShape& shape = shapes_[layer];
    if (request.causal_offset > 0 || request.soft_cap < 0) return KVC_E_ARGUMENT;
    if (shape.sliding_window > 0 && (request.sliding_window < 0 || request.sliding_window > shape.sliding_window))
        return KVC_E_ARGUMENT;
    if (!step->appended[layer] || step->lost_staging[layer]) return KVC_E_ORDER;
    if (!request.answer) return KVC_OK;
    const float* row = q.data();
    for (size_t i = 0; i < step->sequences.size(); ++i) {
        SequenceState& s = *find(step->sequences[i]);
        for (int64_t t = 0; t < step->counts[i]; ++t)
            for (int64_t head = 0; head < shape.q_heads; ++head, row += shape.k_dim)
                out->push_back(attend_one(s, layer, head, s.length + t, row, request, step->accumulate));
    }
    return KVC_OK;
}

}  // namespace kvc_reference

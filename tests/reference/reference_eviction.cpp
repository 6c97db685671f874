// The reference model's eviction and read-back.
#include <algorithm>
#include <cmath>
#include <utility>

#include "tests/reference/reference_model.h"

namespace kvc_reference {
namespace {

struct Range {
    int64_t begin, end;
    bool valid;
};

Range range(int64_t begin, int64_t end, int64_t limit) {
    if (begin == 0 && end == 0) return {0, limit, true};
    return {begin, end, 0 <= begin && begin < end && end <= limit};
}

}  // namespace

bool ReferenceModel::is_coded(const SequenceState& s, int64_t layer, int64_t index) const {
    const LayerShape& shape = shapes_[layer];
    return shape.codec.coded() && index >= shape.codec.sinks && index < coded_end(shape, s.layers[layer], s.length);
}

// Sinks and the residual window always stay; 16-bit codecs have nothing to wait for behind the window.
bool ReferenceModel::may_leave(const SequenceState& s, int64_t layer, int64_t index) const {
    const CodecSpec& codec = shapes_[layer].codec;
    if (!codec.coded()) return index >= codec.sinks && index < s.length - codec.window;
    return index >= shapes_[layer].codec.sinks && index < coded_end(shapes_[layer], s.layers[layer], s.length);
}

// Which tokens of one head stay; nothing if the budget does not even hold those that must.
std::optional<std::vector<bool>> ReferenceModel::choose(const SequenceState& s, int64_t layer, int64_t head, const float* scores,
                                                        const EvictRequest& request) const {
    const std::vector<Row>& rows = s.layers[layer].heads[head];
    std::vector<bool> keep(rows.size(), true);
    std::vector<int64_t> candidates;
    int64_t room = request.budget;
    // StreamingLLM over a codec without sinks of its own.
    const CodecSpec& codec = shapes_[layer].codec;
    const int64_t first = !scores && !codec.coded() && codec.sinks == 0 && !rope_.in_cache ? 4 : 0;
    for (int64_t j : live_of(s, layer, head)) {
        const bool candidate = j >= first && j < s.length - request.recent && may_leave(s, layer, j);
        candidate ? candidates.push_back(j) : static_cast<void>(--room);
    }
    if (room < 0) return std::nullopt;
    const auto score = [&](int64_t j) { return scores ? scores[j] : static_cast<float>(j); };
    std::sort(candidates.begin(), candidates.end(),
              [&](int64_t a, int64_t b) { return score(a) != score(b) ? score(a) > score(b) : a > b; });
    for (size_t c = static_cast<size_t>(room); c < candidates.size(); ++c)
        keep[candidates[c]] = false;
    return keep;
}

kvc_status ReferenceModel::evict(int64_t id, const std::vector<float>* scores, const EvictRequest& request, int64_t* out_evicted) {
    SequenceState* s = find(id);
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    if (request.budget <= 0 || request.recent < 0) return KVC_E_ARGUMENT;
    size_t score_row = 0;
    return decide(*s, request, out_evicted, [&](int64_t layer, int64_t head) {
        const float* row = scores ? scores->data() + score_row : nullptr;
        score_row += static_cast<size_t>(s->length);
        return choose(*s, layer, head, row, request);
    });
}

kvc_status ReferenceModel::keep(int64_t id, const std::vector<int64_t>& positions, const EvictRequest& request, int64_t* out_evicted) {
    SequenceState* s = find(id);
    if (!s) return KVC_E_HANDLE;
    if (s->busy) return KVC_E_BUSY;
    if (request.budget != 0 || request.recent != 0) return KVC_E_ARGUMENT;
    for (size_t i = 1; i < positions.size(); ++i)
        if (positions[i] <= positions[i - 1]) return KVC_E_ARGUMENT;
    const bool beyond =
        !positions.empty() && (positions.front() < s->first_position || positions.back() >= s->first_position + s->length);
    if (beyond) return acts_on_something(request) ? KVC_E_RANGE : KVC_E_ARGUMENT;
    return decide(*s, request, out_evicted, [&](int64_t layer, int64_t) {
        std::vector<bool> kept(static_cast<size_t>(s->length));
        for (int64_t j = 0; j < s->length; ++j)
            kept[j] = !may_leave(*s, layer, j) || std::binary_search(positions.begin(), positions.end(), s->first_position + j);
        return std::optional(kept);
    });
}

// Would a token stay before one that goes?
bool ReferenceModel::leaves_gap(const SequenceState& s, int64_t layer, int64_t head, const std::vector<bool>& keep) const {
    bool kept = false;
    for (int64_t j : live_of(s, layer, head)) {
        if (!may_leave(s, layer, j)) continue;
        if (kept && !keep[j]) return true;
        kept = keep[j];
    }
    return false;
}

bool ReferenceModel::acts_on_something(const EvictRequest& request) const {
    const Range layers = range(request.layer_begin, request.layer_end, static_cast<int64_t>(shapes_.size()));
    if (!layers.valid) return false;
    for (int64_t l = layers.begin; l < layers.end; ++l)
        if (!range(request.head_begin, request.head_end, shapes_[l].kv_heads).valid) return false;
    return true;
}

// Chooses for all heads before anything changes.
kvc_status ReferenceModel::decide(SequenceState& s, const EvictRequest& request, int64_t* out_evicted, const Chooser& choose_head) {
    const Range layers = range(request.layer_begin, request.layer_end, static_cast<int64_t>(shapes_.size()));
    if (!acts_on_something(request)) return KVC_E_ARGUMENT;
    struct Decision {
        int64_t layer, head;
        std::vector<bool> keep;
    };
    std::vector<Decision> decisions;
    for (int64_t l = layers.begin; l < layers.end; ++l) {
        const Range heads = range(request.head_begin, request.head_end, shapes_[l].kv_heads);
        for (int64_t head = heads.begin; head < heads.end; ++head) {
            std::optional<std::vector<bool>> keep = choose_head(l, head);
            if (!keep) return KVC_E_ARGUMENT;
            if (rope_.in_cache && leaves_gap(s, l, head, *keep)) return KVC_E_UNSUPPORTED;
            decisions.push_back({l, head, std::move(*keep)});
        }
    }
    *out_evicted = 0;
    for (const Decision& decision : decisions)
        for (int64_t j : live_of(s, decision.layer, decision.head))
            if (!decision.keep[j]) s.layers[decision.layer].heads[decision.head][j].live = false, ++*out_evicted;
    if (*out_evicted > 0) s.evicted = true, s.event_floor = s.length;
    return KVC_OK;
}

std::vector<int64_t> ReferenceModel::live_of(const SequenceState& s, int64_t layer, int64_t head) const {
    const LayerState& state = s.layers[layer];
    const LayerShape& shape = shapes_[layer];
    // What is held in spare pages below the window's first page no query sees.
    int64_t seen_from = state.held_from;
    const int64_t unseen = s.length - shape.sliding_window + 1 - state.origin;
    if (shape.sliding_window > 0 && unseen > 0) seen_from = std::max(seen_from, state.origin + unseen / page_tokens * page_tokens);
    std::vector<int64_t> indices;
    for (int64_t j = 0; j < s.length; ++j)
        if ((j < shape.codec.sinks || j >= seen_from) && state.heads[head][j].live) indices.push_back(j);
    return indices;
}

std::vector<int64_t> ReferenceModel::live(int64_t id, int64_t layer, int64_t head) const { return live_of(*find(id), layer, head); }

std::vector<float> ReferenceModel::read(int64_t id, int64_t layer, int64_t head, bool keys, int64_t index, bool* out_coded) {
    SequenceState& s = *find(id);
    LayerState& state = s.layers[layer];
    std::vector<Row>& rows = state.heads[head];
    const LayerShape& shape = shapes_[layer];
    const int64_t dim = keys ? shape.k_dim : shape.v_dim;
    *out_coded = is_coded(s, layer, index);
    if (*out_coded) ensure_coded(layer, state, rows, index);
    const SeenToken token = seen_form(shape, rows[index], *out_coded, 0);
    const float* from = keys ? token.k.value : token.v.value;
    std::vector<float> x(from, from + dim);
    if (keys ? shape.codec.k.rotated : shape.codec.v.rotated) rotate_single(x);
    return x;
}

std::vector<uint8_t> ReferenceModel::codes(int64_t id, int64_t layer, int64_t head, bool keys) {
    SequenceState& s = *find(id);
    const LayerShape& shape = shapes_[layer];
    const int64_t dim = keys ? shape.k_dim : shape.v_dim;
    std::vector<uint8_t> out;
    for (int64_t j = shape.codec.sinks; j < s.length && is_coded(s, layer, j); ++j) {
        std::vector<Row>& rows = s.layers[layer].heads[head];
        ensure_coded(layer, s.layers[layer], rows, j);
        const CodedPage& page = keys ? *rows[j].k_page : *rows[j].v_page;
        const auto from = page.code.begin() + static_cast<int64_t>(keys ? rows[j].k_slot : rows[j].v_slot) * dim;
        out.insert(out.end(), from, from + dim);
    }
    return out;
}

// A repack quantizes dequantized keys again, together with other tokens of the head. With R the range of a channel over the coded tokens of
// the head and n the largest code, a step is R / n plus the rounding of the stored scale; the zero point is off by its own rounding, and
// clipping takes up to half of (1 - clip) R. m8 stores scales in units of 1/255 of the largest step of a tile (within one unit) and zeros
// in 1/127 of the largest zero (within one unit); otherwise both are fp16.
struct RepackBound {
    std::vector<double> scale, value;  // per channel: the largest step, the largest move
    double zero = 0;
};

static RepackBound repack_bound(const PartCodec& codec, const std::vector<Row>& rows, size_t dim) {
    RepackBound bound{std::vector<double>(dim), std::vector<double>(dim)};
    std::vector<double> range(dim);
    for (size_t d = 0; d < dim; ++d) {
        double low = 1e30, high = -1e30;
        for (const Row& row : rows)
            if (row.k_page) {
                const double x = row.k_page->value[row.k_slot * dim + d];
                low = std::min(low, x), high = std::max(high, x);
            }
        range[d] = std::max(0.0, high - low);
        bound.zero = std::max({bound.zero, std::fabs(low), std::fabs(high)});
    }
    const double n = (1 << codec.bits) - 1, widest = *std::max_element(range.begin(), range.end());
    for (size_t d = 0; d < dim; ++d) {
        const double scale_unit = codec.m8 ? widest / n / 255 : range[d] / n * 0x1p-11 + 0x1p-24;
        const double zero_unit = codec.m8 ? bound.zero / 127 : bound.zero * 0x1p-11 + 0x1p-24;
        bound.scale[d] = range[d] / n + scale_unit;
        bound.value[d] = bound.scale[d] / 2 + n * scale_unit + zero_unit + (1 - codec.clip) / 2 * range[d] + bound.zero * 0x1p-10;
    }
    return bound;
}

std::string ReferenceModel::adopt_keys(int64_t id, int64_t layer, int64_t head, const std::vector<float>& keys) {
    SequenceState& s = *find(id);
    const PartCodec& codec = shapes_[layer].codec.k;
    std::vector<Row>& rows = s.layers[layer].heads[head];
    const std::vector<int64_t> indices = live(id, layer, head);
    const auto dim = static_cast<size_t>(shapes_[layer].k_dim);
    if (keys.size() != indices.size() * dim) return "read after a repack: another number of tokens";
    if (!codec.per_channel) return "";  // moves without loss: later reads hold it against what was there before
    for (int64_t j = 0; j < s.length; ++j)
        if (is_coded(s, layer, j)) ensure_coded(layer, s.layers[layer], rows, j);
    const RepackBound bound = repack_bound(codec, rows, dim);
    auto page = std::make_shared<CodedPage>();
    page->last = (1 << codec.bits) - 1;
    for (size_t i = 0; i < indices.size(); ++i) {
        if (!is_coded(s, layer, indices[i])) continue;
        Row& row = rows[indices[i]];
        for (size_t d = 0; d < dim; ++d) {
            const double before = row.k_page->value[row.k_slot * dim + d], now = keys[i * dim + d];
            if (!(std::fabs(now - before) <= bound.value[d]))
                return "repack: key of token " + std::to_string(indices[i]) + " channel " + std::to_string(d) + " moved from " +
                       std::to_string(before) + " to " + std::to_string(now) + ", bound " + std::to_string(bound.value[d]);
            page->value.push_back(static_cast<float>(now));
            page->scale.push_back(static_cast<float>(bound.scale[d]));
            page->zero.push_back(static_cast<float>(bound.zero));
        }
    }
    size_t slot = 0;
    for (int64_t index : indices)
        if (is_coded(s, layer, index)) rows[index].k_page = page, rows[index].k_slot = slot++;
    return "";
}

}  // namespace kvc_reference

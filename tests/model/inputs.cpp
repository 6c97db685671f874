#include "tests/model/inputs.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "tests/reference/sixteen_bits.h"

namespace kvc_scripts {

using kvc_reference::Element;
using kvc_reference::Kind;
using kvc_reference::Part;
using kvc_reference::Stream;

namespace {

constexpr uint8_t canary = 0xff;  // an element of such bytes is NaN in all types

int64_t head_dim(const Operation& operation, const std::string& word, int64_t otherwise) {
    return operation.has(word) ? std::max(operation.number(word), smallest_head_dim()) : otherwise;
}

Kind kind_of(const std::string& word) {
    static const std::map<std::string, Kind> kinds = {
        {"normal", Kind::normal},   {"sharp", Kind::sharp}, {"constant", Kind::constant}, {"zero", Kind::zero},
        {"outlier", Kind::outlier}, {"tiny", Kind::tiny},   {"extreme", Kind::extreme},   {"huge", Kind::huge},
        {"nan", Kind::nan},         {"inf", Kind::inf}};
    const auto found = kinds.find(word);
    if (found == kinds.end()) throw std::runtime_error("unknown kind of data " + word);
    return found->second;
}

void copy_text(char* to, size_t capacity, const std::string& from) {
    if (from.size() >= capacity) throw std::runtime_error("\"" + from + "\" is too long");
    std::memcpy(to, from.c_str(), from.size() + 1);
}

}  // namespace

int32_t dtype_of(const std::string& word) {
    if (word == "f32") return KVC_F32;
    if (word == "f16") return KVC_F16;
    if (word == "bf16") return KVC_BF16;
    throw std::runtime_error("unknown element type " + word);
}

Buffer::Buffer(int32_t element_type, int64_t n_rows, int64_t row_width, int64_t row_padding)
    : dtype(element_type),
      rows(n_rows),
      width(row_width),
      padding(row_padding),
      bytes(static_cast<size_t>(n_rows * (row_width + row_padding) * element_bytes(element_type)), canary) {}

void Buffer::set_row(int64_t row, const float* from) {
    uint8_t* to = bytes.data() + row * (width + padding) * element_bytes(dtype);
    for (int64_t i = 0; i < width; ++i, to += element_bytes(dtype)) {
        if (dtype == KVC_F32) {
            std::memcpy(to, from + i, 4);
        } else {
            const uint16_t bits = dtype == KVC_F16 ? kvc_reference::half_bits(from[i]) : kvc_reference::bfloat_bits(from[i]);
            std::memcpy(to, &bits, 2);
        }
    }
}

std::vector<float> Buffer::values() const {
    std::vector<float> out;
    for (int64_t row = 0; row < rows; ++row) {
        const uint8_t* from = bytes.data() + row * (width + padding) * element_bytes(dtype);
        for (int64_t i = 0; i < width; ++i, from += element_bytes(dtype)) {
            float value = 0;
            uint16_t bits = 0;
            if (dtype == KVC_F32)
                std::memcpy(&value, from, 4);
            else
                std::memcpy(&bits, from, 2);
            if (dtype == KVC_F16) value = static_cast<float>(kvc_reference::half_value(bits));
            if (dtype == KVC_BF16) value = static_cast<float>(kvc_reference::bfloat_value(bits));
            out.push_back(value);
        }
    }
    return out;
}

bool Buffer::padding_untouched() const {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = width * element_bytes(dtype); i < (width + padding) * element_bytes(dtype); ++i)
            if (bytes[row * (width + padding) * element_bytes(dtype) + i] != canary) return false;
    return true;
}

Stream stream_of(const Operation& operation, int32_t dtype, uint64_t data) {
    const Element element = dtype == KVC_F16 ? Element::f16 : dtype == KVC_BF16 ? Element::bf16 : Element::f32;
    return {operation.seed("seed"), data, kind_of(operation.word("kind", "normal")), element};
}

int64_t StepRecord::tokens() const { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

int32_t part_of(const Operation& operation) {
    const std::string word = operation.word("part", "keys");
    if (word == "keys") return KVC_KEYS;
    if (word == "values") return KVC_VALUES;
    throw std::runtime_error("unknown part " + word);
}

int32_t cut_of(const Operation& operation) { return operation.word("cut", "exact") == "inexact" ? KVC_CUT_INEXACT : KVC_CUT_EXACT; }

int64_t& smallest_head_dim() {
    static int64_t dim = 0;
    return dim;
}

void ScriptShapes::create(const Operation& operation) {
    kvc_options& o = options;
    o = kvc_options{};
    o.struct_size = sizeof o;
    o.layers = operation.number("layers", 1), o.kv_heads = operation.number("kv_heads", 1);
    o.q_heads = operation.number("q_heads"), o.k_dim = head_dim(operation, "k_dim", 64), o.v_dim = head_dim(operation, "v_dim", 0);
    o.sliding_window = operation.number("sliding_window");
    o.arena_bytes = operation.number("arena_bytes"), o.arena_tokens = operation.number("arena_tokens");
    o.arena_sequences = operation.number("arena_sequences"), o.arena_growth = static_cast<int32_t>(operation.number("growth"));
    o.spare_pages = static_cast<int32_t>(operation.number("spare_pages"));
    o.saturate = static_cast<int32_t>(operation.number("saturate"));
    o.keys = operation.word("keys") == "before" ? KVC_KEYS_BEFORE_ROPE : KVC_KEYS_AFTER_ROPE;
    o.positions = operation.word("positions") == "in_cache" ? KVC_POSITIONS_IN_CACHE : KVC_POSITIONS_TRUE;
    o.rope_pairs = operation.word("pairs") == "interleaved" ? KVC_ROPE_INTERLEAVED : KVC_ROPE_HALVES;
    o.rope_theta = operation.real("rope_theta"), o.rope_dims = operation.number("rope_dims");
    copy_text(o.codec, sizeof o.codec, operation.word("codec"));
    copy_text(o.policy, sizeof o.policy, operation.word("policy"));
    o.context_tokens = operation.number("context_tokens");
    layers.assign(static_cast<size_t>(std::max<int64_t>(o.layers, 1)), kvc_layer{});
    for (size_t l = 0; l < layers.size(); ++l) {
        const Operation& line = lines[static_cast<int64_t>(l)];
        kvc_layer& layer = layers[l];
        layer.struct_size = sizeof layer;
        layer.kv_heads = line.number("kv_heads", o.kv_heads);
        layer.q_heads = line.number("q_heads", o.q_heads ? o.q_heads : layer.kv_heads);
        layer.k_dim = head_dim(line, "k_dim", o.k_dim), layer.v_dim = head_dim(line, "v_dim", o.v_dim ? o.v_dim : layer.k_dim);
        layer.sliding_window = line.number("sliding_window", o.sliding_window);
        layer.rope_theta = line.has("rope_theta") ? line.real("rope_theta") : o.rope_theta;
        copy_text(layer.codec, sizeof layer.codec, line.word("codec", o.codec));
    }
    if (std::all_of(lines.begin(), lines.end(), [](const auto& line) { return line.second.arguments.empty(); })) lines.clear();
}

const kvc_layer& ScriptShapes::layer_of(const Operation& operation) const {
    if (layers.empty()) throw std::runtime_error("no cache was created");
    const int64_t layer = operation.number("layer");
    return layers[layer >= 0 && layer < options.layers ? layer : 0];
}

std::vector<float> input(const Operation& operation, const ScriptShapes& shapes, const StepRecord& step, Part part) {
    const kvc_layer& shape = shapes.layer_of(operation);
    const int64_t heads = part == Part::queries ? shape.q_heads : shape.kv_heads;
    const int64_t dim = part == Part::values ? shape.v_dim : shape.k_dim;
    std::vector<float> all;
    for (size_t i = 0; i < step.sequences.size(); ++i) {
        const Stream stream = stream_of(operation, part == Part::queries ? step.q_dtype : step.kv_dtype, step.data[i]);
        const std::vector<float> rows =
            kvc_reference::rows(stream, operation.number("layer"), part, step.first[i], step.counts[i], heads, dim);
        all.insert(all.end(), rows.begin(), rows.end());
    }
    const Kind kind = stream_of(operation, KVC_F32, 0).kind;
    if (!all.empty() && kind == Kind::nan) all.back() = std::numeric_limits<float>::quiet_NaN();
    if (!all.empty() && kind == Kind::inf) all.back() = std::numeric_limits<float>::infinity();
    return all;
}

std::vector<int64_t> prompt_tokens(const Operation& operation) {
    std::vector<int64_t> tokens(static_cast<size_t>(operation.number("n")));
    const int64_t turn = operation.number("turn", static_cast<int64_t>(tokens.size()));
    for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] =
            static_cast<int64_t>(i) * 1000 + (static_cast<int64_t>(i) < turn ? operation.number("text") : operation.number("other"));
    return tokens;
}

std::vector<float> sink_logits_of(const Operation& operation, const ScriptShapes& shapes) {
    const int64_t n = operation.number("n", shapes.layer_of(operation).q_heads);
    return kvc_reference::rows(stream_of(operation, KVC_F32, 0), operation.number("layer"), Part::sink_logits, 0, 1, 1, n);
}

namespace {

// The kv heads that a line acts on, as (layer, head), in the order of scores and clusters.
std::vector<std::pair<int64_t, int64_t>> heads_acted_on(const Operation& operation, const ScriptShapes& shapes) {
    auto [layer_begin, layer_end] = operation.range("layers");
    const auto [head_begin, head_end] = operation.range("heads");
    if (layer_end == 0) layer_end = shapes.options.layers;
    std::vector<std::pair<int64_t, int64_t>> acted_on;
    for (int64_t l = std::max<int64_t>(layer_begin, 0); l < std::min(layer_end, shapes.options.layers); ++l) {
        const int64_t heads = head_end == 0 ? shapes.layers[l].kv_heads : std::max<int64_t>(head_end - head_begin, 0);
        for (int64_t head = head_begin; head < head_begin + heads; ++head)
            acted_on.emplace_back(l, head);
    }
    return acted_on;
}

}  // namespace

std::vector<float> evict_scores(const Operation& operation, const ScriptShapes& shapes, uint64_t data, int64_t tokens) {
    std::vector<float> scores;
    for (const auto& [layer, head] : heads_acted_on(operation, shapes)) {
        const Stream stream{operation.seed("scores"), data, Kind::normal, kvc_reference::Element::f32};
        const std::vector<float> row = kvc_reference::rows(stream, layer, Part::scores, head, 1, 1, std::max<int64_t>(tokens, 0));
        scores.insert(scores.end(), row.begin(), row.end());
    }
    return scores;
}

std::vector<int32_t> merge_clusters(const Operation& operation, const ScriptShapes& shapes, uint64_t data, int64_t tokens) {
    const int64_t first = operation.number("first"), recent = operation.number("recent");
    std::vector<int32_t> clusters;
    for (const auto& [layer, head] : heads_acted_on(operation, shapes)) {
        const uint64_t row = kvc_reference::row_key(operation.seed("seed"), data, layer, Part::clusters, static_cast<uint64_t>(head));
        for (int64_t i = 0; i < tokens; ++i) {
            const int64_t choice = kvc_reference::bell(row, static_cast<uint64_t>(i)) & 3;  // as the remainder that is not negative
            const bool stays = i % 4 == 0 || i < first || i >= tokens - recent || choice >= 2;
            clusters.push_back(static_cast<int32_t>(stays ? i : choice == 0 ? i - i % 4 : -1));
        }
    }
    return clusters;
}

}  // namespace kvc_scripts

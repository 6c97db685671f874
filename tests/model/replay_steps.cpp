// The replayer's steps, eviction and read-back.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <tuple>

#include "tests/model/replay.h"

namespace kvc_scripts {

using kvc_reference::Part;

void Replay::begin(const Operation& operation, Outcome& outcome) {
    StepRecord record;
    std::vector<kvc_seq> handles;
    std::vector<int64_t> positions;
    for (const auto& [name, count] : operation.counts) {
        int64_t length = 0;
        handles.push_back(handle_of(name));
        kvc_seq_length(cache_, handles.back(), &length, nullptr);
        record.sequences.push_back(name), record.counts.push_back(count);
        record.first.push_back(length), record.data.push_back(data_of(name));
        positions.push_back(length + operation.number("position_error"));
    }
    record.kv_dtype = dtype_of(operation.word("kv", "f32")), record.q_dtype = dtype_of(operation.word("q", "f32"));
    record.out_dtype = dtype_of(operation.word("out", "f32")), record.padding = operation.number("padding");
    kvc_step_options o;
    kvc_step_options_init(&o, sizeof o);
    o.kv_dtype = record.kv_dtype, o.q_dtype = record.q_dtype, o.out_dtype = record.out_dtype;
    if (record.padding > 0) {
        const kvc_layer& shape = shapes_.layer_of(operation);  // strides hold for all layers: padding is for uniform shapes
        o.k_token_stride = shape.kv_heads * shape.k_dim + record.padding,
        o.v_token_stride = shape.kv_heads * shape.v_dim + record.padding;
        o.q_token_stride = shape.q_heads * shape.k_dim + record.padding,
        o.out_token_stride = shape.q_heads * shape.v_dim + record.padding;
    }
    o.partial_commit = static_cast<int32_t>(operation.number("partial_commit")),
    o.strict = static_cast<int32_t>(operation.number("strict"));
    o.accumulate = static_cast<int32_t>(operation.number("accumulate"));
    const auto n = static_cast<int64_t>(handles.size());
    const bool guard = operation.has("guard") || operation.has("position_error");
    record.handle =
        kvc_step_begin(cache_, handles.data(), record.counts.data(), n, guard ? positions.data() : nullptr, guard ? n : 0, &o, &error_);
    outcome.status = record.handle ? int32_t{KVC_OK} : error_.status;
    if (record.handle) steps_[operation.name(0)] = record;
}

void Replay::append(const Operation& operation, Outcome& outcome) {
    const StepRecord& record = step(operation.name(0));
    const kvc_layer& shape = shapes_.layer_of(operation);
    Buffer k(record.kv_dtype, record.tokens(), shape.kv_heads * shape.k_dim, record.padding);
    Buffer v(record.kv_dtype, record.tokens(), shape.kv_heads * shape.v_dim, record.padding);
    const std::vector<float> keys = input(operation, shapes_, record, Part::keys),
                             values = input(operation, shapes_, record, Part::values);
    for (int64_t t = 0; t < record.tokens(); ++t)
        k.set_row(t, keys.data() + t * k.width), v.set_row(t, values.data() + t * v.width);
    outcome.status = kvc_append(record.handle, operation.number("layer"), k.bytes.data(), k.size(), v.bytes.data(), v.size(), &error_);
}

void Replay::attend(const Operation& operation, Outcome& outcome) {
    const StepRecord& record = step(operation.name(0));
    const kvc_layer& shape = shapes_.layer_of(operation);
    Buffer q(record.q_dtype, record.tokens(), shape.q_heads * shape.k_dim, record.padding);
    Buffer out(record.out_dtype, record.tokens(), shape.q_heads * shape.v_dim, record.padding);
    std::vector<float> lse(static_cast<size_t>(record.tokens() * shape.q_heads));
    const std::vector<float> queries = input(operation, shapes_, record, Part::queries);
    for (int64_t t = 0; t < record.tokens(); ++t)
        q.set_row(t, queries.data() + t * q.width);
    kvc_attend_options o;
    kvc_attend_options_init(&o, sizeof o);
    o.scale = static_cast<float>(operation.real("scale")), o.soft_cap = static_cast<float>(operation.real("soft_cap"));
    o.partial = static_cast<int32_t>(operation.number("partial"));
    o.sliding_window = operation.number("sliding_window"), o.causal_offset = operation.number("causal_offset");
    const bool with_lse = operation.number("lse", 1) != 0;
    outcome.status =
        kvc_attend(record.handle, operation.number("layer"), q.bytes.data(), q.size(), out.bytes.data(), out.size(),
                   with_lse ? lse.data() : nullptr, with_lse ? static_cast<int64_t>(lse.size() * sizeof(float)) : 0, &o, &error_);
    if (!out.padding_untouched()) throw std::runtime_error("attend wrote between the rows of out");
    if (outcome.status != KVC_OK) return;
    outcome.out = out.values();
    for (int64_t t = 0; t < out.rows; ++t) {
        const auto row = out.bytes.begin() + t * (out.width + out.padding) * Buffer::element_bytes(out.dtype);
        outcome.bytes.insert(outcome.bytes.end(), row, row + out.width * Buffer::element_bytes(out.dtype));
    }
    if (!with_lse) return;
    outcome.lse = lse;
    const auto* bytes = reinterpret_cast<const uint8_t*>(lse.data());
    outcome.bytes.insert(outcome.bytes.end(), bytes, bytes + lse.size() * sizeof(float));
}

void Replay::commit(const Operation& operation, Outcome& outcome) {
    const StepRecord& record = step(operation.name(0));
    std::vector<int64_t> accepted;
    for (const auto& [name, count] : operation.counts)
        accepted.push_back(count);
    outcome.status =
        kvc_step_commit(record.handle, accepted.empty() ? nullptr : accepted.data(), static_cast<int64_t>(accepted.size()), &error_);
}

void Replay::abort(const Operation& operation, Outcome& outcome) {
    outcome.status = kvc_step_abort(step(operation.name(0)).handle, &error_);
}

// ---- Evict ----

namespace {

kvc_evict_options evict_options(const Operation& operation) {
    kvc_evict_options o;
    kvc_evict_options_init(&o, sizeof o);
    o.budget = operation.number("budget"), o.recent = operation.number("recent");
    std::tie(o.layer_begin, o.layer_end) = operation.range("layers");
    std::tie(o.head_begin, o.head_end) = operation.range("heads");
    return o;
}

void set_report(Outcome& outcome, const kvc_evict_report& report) {
    outcome.set_numbers({report.tokens_evicted, report.records_freed, report.bytes_freed, report.tokens_repacked});
}

}  // namespace

void Replay::evict(const Operation& operation, Outcome& outcome) {
    const kvc_seq handle = handle_of(operation.name(0));
    const kvc_evict_options o = evict_options(operation);
    std::vector<float> scores;
    if (operation.has("scores")) {
        int64_t length = 0;
        kvc_seq_length(cache_, handle, &length, nullptr);
        scores = evict_scores(operation, shapes_, data_of(operation.name(0)), length - first_position(operation.name(0)));
    }
    kvc_evict_report report{};
    report.struct_size = sizeof report;
    outcome.status =
        kvc_evict(cache_, handle, scores.empty() ? nullptr : scores.data(), static_cast<int64_t>(scores.size()), &o, &report, &error_);
    set_report(outcome, report);
}

void Replay::keep(const Operation& operation, Outcome& outcome) {
    const kvc_evict_options o = evict_options(operation);
    const std::vector<int64_t> positions = operation.list("positions");
    kvc_evict_report report{};
    report.struct_size = sizeof report;
    outcome.status = kvc_evict_keep(cache_, handle_of(operation.name(0)), positions.data(), static_cast<int64_t>(positions.size()), &o,
                                    &report, &error_);
    set_report(outcome, report);
}

// ---- Read-back ----

void Replay::read(const Operation& operation, Outcome& outcome) {
    const kvc_seq handle = handle_of(operation.name(0));
    const kvc_layer& shape = shapes_.layer_of(operation);
    const int64_t layer = operation.number("layer"), head = operation.number("head"), first = operation.number("first");
    int64_t live = 0;
    kvc_seq_live(cache_, handle, layer, head, &live, nullptr);
    const int64_t n = operation.number("n", live - first);
    const int64_t dim = part_of(operation) == KVC_KEYS ? shape.k_dim : shape.v_dim;
    std::vector<float> values(static_cast<size_t>(std::max<int64_t>(n, 0) * dim));
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
    outcome.status = kvc_seq_read(cache_, handle, layer, head, part_of(operation), first, n, values.data(), bytes, &error_);
    if (outcome.status != KVC_OK) return;
    outcome.values = values;
    const auto* from = reinterpret_cast<const uint8_t*>(values.data());
    outcome.bytes.assign(from, from + bytes);
}

void Replay::codes(const Operation& operation, Outcome& outcome) {
    const kvc_seq handle = handle_of(operation.name(0));
    const int64_t layer = operation.number("layer"), head = operation.number("head");
    const kvc_layer& shape = shapes_.layer_of(operation);
    int64_t tokens = 0;
    outcome.status = kvc_seq_read_codes(cache_, handle, layer, head, part_of(operation), nullptr, 0, &tokens, &error_);
    if (outcome.status != KVC_OK) return;
    outcome.codes.resize(static_cast<size_t>(tokens * (part_of(operation) == KVC_KEYS ? shape.k_dim : shape.v_dim)));
    outcome.status = kvc_seq_read_codes(cache_, handle, layer, head, part_of(operation), outcome.codes.data(),
                                        static_cast<int64_t>(outcome.codes.size()), &tokens, &error_);
    outcome.set_numbers({tokens});
    outcome.bytes.insert(outcome.bytes.end(), outcome.codes.begin(), outcome.codes.end());
}

void Replay::read_list(const Operation& operation, Outcome& outcome, ReadList give) {
    const kvc_seq handle = handle_of(operation.name(0));
    const int64_t layer = operation.number("layer"), head = operation.number("head");
    int64_t live = 0;
    kvc_seq_live(cache_, handle, layer, head, &live, nullptr);
    std::vector<int64_t> values(static_cast<size_t>(live));
    outcome.status = give(cache_, handle, layer, head, values.data(), live, &live, &error_);
    values.resize(static_cast<size_t>(live));
    outcome.set_numbers(std::move(values));
}

void Replay::mass(const Operation& operation, Outcome& outcome) { read_list(operation, outcome, kvc_seq_read_mass); }

void Replay::positions(const Operation& operation, Outcome& outcome) { read_list(operation, outcome, kvc_seq_positions); }

void Replay::counts(const Operation& operation, Outcome& outcome) { read_list(operation, outcome, kvc_seq_read_counts); }

void Replay::rungs(const Operation& operation, Outcome& outcome) { read_list(operation, outcome, kvc_seq_read_rungs); }

}  // namespace kvc_scripts

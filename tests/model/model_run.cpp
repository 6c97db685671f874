#include "tests/model/model_run.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

namespace kvc_scripts {

using kvc_reference::AttendRequest;
using kvc_reference::Attention;
using kvc_reference::EvictRequest;
using kvc_reference::LayerShape;
using kvc_reference::Part;
using kvc_reference::SequenceState;

const std::map<std::string, ModelRun::Verb>& ModelRun::verbs() {
    static const std::map<std::string, Verb> all = {{"layer", &ModelRun::layer},
                                                    {"create", &ModelRun::create},
                                                    {"plan", &ModelRun::plan},
                                                    {"sink_logits", &ModelRun::sink_logits},
                                                    {"seq", &ModelRun::seq},
                                                    {"fork", &ModelRun::fork},
                                                    {"truncate", &ModelRun::truncate},
                                                    {"destroy", &ModelRun::destroy},
                                                    {"prompt", &ModelRun::prompt},
                                                    {"begin", &ModelRun::begin},
                                                    {"append", &ModelRun::append},
                                                    {"attend", &ModelRun::attend},
                                                    {"commit", &ModelRun::commit},
                                                    {"abort", &ModelRun::abort},
                                                    {"evict", &ModelRun::evict},
                                                    {"keep", &ModelRun::keep},
                                                    {"read", &ModelRun::read},
                                                    {"codes", &ModelRun::codes},
                                                    {"mass", &ModelRun::mass},
                                                    {"positions", &ModelRun::positions},
                                                    {"live", &ModelRun::live},
                                                    {"length", &ModelRun::length},
                                                    {"floor", &ModelRun::floor},
                                                    {"stats", &ModelRun::stats},
                                                    {"publish", &ModelRun::publish},
                                                    {"lookup", &ModelRun::lookup},
                                                    {"unpublish", &ModelRun::unpublish},
                                                    {"prefix_clear", &ModelRun::prefix_clear},
                                                    {"prefix_stats", &ModelRun::prefix_stats}};
    return all;
}

bool ModelRun::may_exhaust(const std::string& verb) {
    static const std::set<std::string> verbs = {"create", "seq", "fork", "truncate", "begin", "evict", "keep", "publish", "lookup"};
    return verbs.count(verb) > 0;
}

Verdict ModelRun::apply(const Operation& operation, const Outcome* actual) {
    const auto verb = verbs().find(operation.verb);
    if (verb == verbs().end()) throw std::runtime_error("unknown operation " + operation.verb);
    if (!model_ && operation.verb != "create" && operation.verb != "layer") throw std::runtime_error("no cache was created");
    fault_.clear();
    // Where memory may run out, the library decides; the model then has not moved either.
    if (actual && actual->status == KVC_E_NO_MEMORY && shapes_.tight() && may_exhaust(operation.verb)) return {KVC_E_NO_MEMORY, ""};
    const int32_t status = (this->*verb->second)(operation, actual);
    if (actual && actual->status != status)
        fault_ =
            "the model answers " + status_word(status) + ", the library " + status_word(actual->status) + " (" + actual->message + ")";
    return {status, fault_};
}

const SequenceState* ModelRun::sequence(const std::string& name) const { return model_ ? model_->find(id_of(name)) : nullptr; }

const StepRecord* ModelRun::open_step(const std::string& name) const {
    const auto found = steps_.find(name);
    if (found == steps_.end() || !model_->find_step(found->second)) return nullptr;
    return &records_.at(name);
}

int64_t ModelRun::id_of(const std::string& name) const {
    const auto found = sequences_.find(name);
    return found == sequences_.end() ? 0 : found->second;
}

void ModelRun::set_fault(const std::string& text) {
    if (fault_.empty()) fault_ = text;
}

// ---- Cache ----

int32_t ModelRun::layer(const Operation& operation, const Outcome*) {
    shapes_.lines[std::stoll(operation.name(0))] = operation;
    return KVC_OK;
}

int32_t ModelRun::create(const Operation& operation, const Outcome*) {
    shapes_.create(operation);
    const kvc_options& o = shapes_.options;
    std::vector<LayerShape> layers;
    for (const kvc_layer& layer : shapes_.layers) {
        const int64_t window = layer.sliding_window < 0 ? 0 : layer.sliding_window;
        layers.push_back(
            {layer.kv_heads, layer.q_heads, layer.k_dim, layer.v_dim, window, kvc_reference::parse_codec(layer.codec), {}});
        const int64_t dims = o.rope_dims != 0 ? o.rope_dims : layer.k_dim;
        for (int64_t i = 0; i < dims / 2 && layer.rope_theta != 0; ++i)
            layers.back().frequencies.push_back(std::pow(layer.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(dims)));
    }
    const kvc_reference::RopeRules rope = {o.keys == KVC_KEYS_BEFORE_ROPE, o.positions == KVC_POSITIONS_IN_CACHE,
                                           o.rope_pairs == KVC_ROPE_INTERLEAVED};
    model_ = std::make_unique<kvc_reference::ReferenceModel>(layers, rope, o.spare_pages, o.saturate != 0);
    return KVC_OK;
}

int32_t ModelRun::plan(const Operation& operation, const Outcome*) {
    return operation.number("tokens") > 0 && operation.number("sequences") >= 0 ? KVC_OK : KVC_E_ARGUMENT;
}

int32_t ModelRun::sink_logits(const Operation& operation, const Outcome*) {
    const int64_t layer = operation.number("layer");
    if (layer < 0 || layer >= shapes_.options.layers) return KVC_E_ARGUMENT;
    const std::vector<float> logits = sink_logits_of(operation, shapes_);
    if (!logits.empty() && static_cast<int64_t>(logits.size()) != shapes_.layers[layer].q_heads) return KVC_E_ARGUMENT;
    if (model_->open_steps() > 0) return KVC_E_BUSY;
    model_->sink_logits[layer] = logits;
    return KVC_OK;
}

int32_t ModelRun::stats(const Operation& operation, const Outcome* actual) {
    if (!operation.names.empty()) {
        const SequenceState* s = sequence(operation.name(0));
        if (!s) return KVC_E_HANDLE;
        if (actual && !actual->numbers.empty()) expect_equal("tokens", {s->length}, {actual->numbers[0]});
        return KVC_OK;
    }
    if (!actual || actual->numbers.size() < 8) return KVC_OK;
    const std::vector<int64_t>& n = actual->numbers;  // arena, bound, records, sinks, window, codes, reserved, side
    expect_equal("record_bytes = its parts", {n[3] + n[4] + n[5] + n[6] + n[7]}, {n[2]});
    if (n[2] > n[1] || n[1] > n[0]) set_fault("stats: record_bytes <= bound_bytes <= arena_bytes does not hold");
    return KVC_OK;
}

// ---- Sequences ----

int32_t ModelRun::seq(const Operation& operation, const Outcome*) {
    const int64_t first = operation.number("first_position"), prompt = operation.number("prompt_length");
    if (first < 0 || first > int64_t{1} << 53 || prompt < 0) return KVC_E_ARGUMENT;
    sequences_[operation.name(0)] = model_->create(first, prompt);
    data_[operation.name(0)] = operation.seed("data");
    return KVC_OK;
}

int32_t ModelRun::fork(const Operation& operation, const Outcome*) {
    int64_t made = 0;
    const std::string& from = operation.name(1);
    const kvc_status status = model_->fork(id_of(from), operation.number("length"), cut_of(operation) == KVC_CUT_INEXACT, &made);
    if (status != KVC_OK) return status;
    sequences_[operation.name(0)] = made;
    data_[operation.name(0)] = operation.has("data") ? operation.seed("data") : data_[from];
    return KVC_OK;
}

int32_t ModelRun::truncate(const Operation& operation, const Outcome*) {
    return model_->truncate(id_of(operation.name(0)), operation.number("length"), cut_of(operation) == KVC_CUT_INEXACT);
}

int32_t ModelRun::destroy(const Operation& operation, const Outcome*) { return model_->destroy(id_of(operation.name(0))); }

int32_t ModelRun::prompt(const Operation& operation, const Outcome*) {
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    return s->busy ? KVC_E_BUSY : operation.number("end") < s->first_position ? KVC_E_ARGUMENT : KVC_OK;
}

int32_t ModelRun::length(const Operation& operation, const Outcome* actual) {
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    if (actual) expect_equal("length", {s->first_position + s->length}, actual->numbers);
    return KVC_OK;
}

int32_t ModelRun::floor(const Operation& operation, const Outcome* actual) {
    if (!sequence(operation.name(0))) return KVC_E_HANDLE;
    if (actual) expect_equal("exact floor", {model_->exact_floor(id_of(operation.name(0)))}, actual->numbers);
    return KVC_OK;
}

// ---- Steps ----

int32_t ModelRun::begin(const Operation& operation, const Outcome*) {
    StepRecord record;
    std::vector<int64_t> ids;
    std::set<int64_t> different;
    bool valid = !operation.counts.empty() && !(operation.number("partial_commit") && operation.number("accumulate"));
    for (const auto& [name, count] : operation.counts) {
        const SequenceState* s = sequence(name);
        ids.push_back(s ? id_of(name) : 0);
        valid = valid && count >= 0 && different.insert(id_of(name)).second;
        record.sequences.push_back(name), record.counts.push_back(count);
        record.first.push_back(s ? s->first_position + s->length : 0), record.data.push_back(data_[name]);
    }
    if (!valid) return KVC_E_ARGUMENT;
    record.kv_dtype = dtype_of(operation.word("kv", "f32")), record.q_dtype = dtype_of(operation.word("q", "f32"));
    record.out_dtype = dtype_of(operation.word("out", "f32")), record.padding = operation.number("padding");
    int64_t made = 0;
    const bool partial = operation.number("partial_commit") != 0, accumulate = operation.number("accumulate") != 0;
    for (int64_t id : ids) {
        if (!model_->find(id)) return KVC_E_HANDLE;
        if (model_->find(id)->busy) return KVC_E_BUSY;
        if (operation.number("position_error") != 0) return KVC_E_ARGUMENT;
    }
    const kvc_status status = model_->begin(ids, record.counts, partial, accumulate, &made);
    if (status != KVC_OK) return status;
    steps_[operation.name(0)] = made;
    records_[operation.name(0)] = record;
    return KVC_OK;
}

int32_t ModelRun::append(const Operation& operation, const Outcome*) {
    const StepRecord* record = open_step(operation.name(0));
    if (!record) return KVC_E_HANDLE;
    return model_->append(steps_[operation.name(0)], operation.number("layer"), input(operation, shapes_, *record, Part::keys),
                          input(operation, shapes_, *record, Part::values));
}

int32_t ModelRun::attend(const Operation& operation, const Outcome* actual) {
    const StepRecord* record = open_step(operation.name(0));
    if (!record) return KVC_E_HANDLE;
    AttendRequest request;
    request.scale = static_cast<float>(operation.real("scale")), request.soft_cap = static_cast<float>(operation.real("soft_cap"));
    request.partial = operation.number("partial") != 0, request.planes = planes_, request.product = product_;
    request.sliding_window = operation.number("sliding_window"), request.causal_offset = operation.number("causal_offset");
    request.answer = actual != nullptr && actual->status == KVC_OK;
    std::vector<Attention> expected;
    const std::vector<float> queries = input(operation, shapes_, *record, Part::queries);
    const kvc_status status = model_->attend(steps_[operation.name(0)], operation.number("layer"), queries, request, &expected);
    if (status == KVC_OK && request.answer) compare_attention(*record, shapes_.layer_of(operation).v_dim, expected, *actual);
    return status;
}

int32_t ModelRun::commit(const Operation& operation, const Outcome*) {
    const StepRecord* record = open_step(operation.name(0));
    if (!record) return KVC_E_HANDLE;
    std::vector<int64_t> accepted;
    for (const auto& [name, count] : operation.counts)
        accepted.push_back(count);
    if (accepted.empty()) return model_->commit(steps_[operation.name(0)], nullptr);
    if (accepted.size() != record->counts.size()) return KVC_E_ARGUMENT;
    const bool partial = model_->find_step(steps_[operation.name(0)])->partial_commit;
    for (size_t i = 0; i < accepted.size(); ++i)
        if (accepted[i] < 0 || accepted[i] > record->counts[i] || (!partial && accepted[i] != record->counts[i])) return KVC_E_ARGUMENT;
    return model_->commit(steps_[operation.name(0)], &accepted);
}

int32_t ModelRun::abort(const Operation& operation, const Outcome*) {
    return open_step(operation.name(0)) ? model_->abort(steps_[operation.name(0)]) : KVC_E_HANDLE;
}

// ---- Evict ----

namespace {

EvictRequest evict_request(const Operation& operation) {
    const auto [layer_begin, layer_end] = operation.range("layers");
    const auto [head_begin, head_end] = operation.range("heads");
    return {layer_begin, layer_end, head_begin, head_end, operation.number("budget"), operation.number("recent")};
}

}  // namespace

int32_t ModelRun::evict(const Operation& operation, const Outcome* actual) {
    const SequenceState* s = sequence(operation.name(0));
    if (!s) return KVC_E_HANDLE;
    std::vector<float> scores;
    if (operation.has("scores")) scores = evict_scores(operation, shapes_, data_[operation.name(0)], s->length);
    int64_t evicted = 0;
    const kvc_status status =
        model_->evict(id_of(operation.name(0)), scores.empty() ? nullptr : &scores, evict_request(operation), &evicted);
    if (status == KVC_OK && actual && !actual->numbers.empty()) expect_equal("tokens evicted", {evicted}, {actual->numbers[0]});
    return status;
}

int32_t ModelRun::keep(const Operation& operation, const Outcome* actual) {
    const std::vector<int64_t> positions = operation.list("positions");
    int64_t evicted = 0;
    const kvc_status status = model_->keep(id_of(operation.name(0)), positions, evict_request(operation), &evicted);
    if (status == KVC_OK && actual && !actual->numbers.empty()) expect_equal("tokens evicted", {evicted}, {actual->numbers[0]});
    return status;
}

}  // namespace kvc_scripts

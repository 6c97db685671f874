#include "tests/model/replay.h"

#include <cstring>
#include <stdexcept>

namespace kvc_scripts {

int32_t& device_of_scripts() {
    static int32_t device = KVC_DEVICE_DEFAULT;
    return device;
}

double& product_of_scripts() {
    static double product = 0;
    return product;
}

void Outcome::add_bytes(const void* from, size_t n) {
    const auto* first = static_cast<const uint8_t*>(from);
    bytes.insert(bytes.end(), first, first + n);
}

void Outcome::set_numbers(std::vector<int64_t> given) {
    numbers = std::move(given);
    add_bytes(numbers.data(), numbers.size() * sizeof(int64_t));
}

// ---- Running ----

Replay::~Replay() {
    if (cache_) kvc_destroy(cache_, nullptr);
}

const std::map<std::string, Replay::Verb>& Replay::verbs() {
    static const std::map<std::string, Verb> all = {{"layer", &Replay::layer},
                                                    {"create", &Replay::create},
                                                    {"plan", &Replay::plan},
                                                    {"sink_logits", &Replay::sink_logits},
                                                    {"seq", &Replay::seq},
                                                    {"fork", &Replay::fork},
                                                    {"truncate", &Replay::truncate},
                                                    {"destroy", &Replay::destroy},
                                                    {"prompt", &Replay::prompt},
                                                    {"begin", &Replay::begin},
                                                    {"append", &Replay::append},
                                                    {"attend", &Replay::attend},
                                                    {"commit", &Replay::commit},
                                                    {"abort", &Replay::abort},
                                                    {"evict", &Replay::evict},
                                                    {"keep", &Replay::keep},
                                                    {"merge", &Replay::merge},
                                                    {"step_down", &Replay::step_down},
                                                    {"read", &Replay::read},
                                                    {"codes", &Replay::codes},
                                                    {"mass", &Replay::mass},
                                                    {"positions", &Replay::positions},
                                                    {"counts", &Replay::counts},
                                                    {"rungs", &Replay::rungs},
                                                    {"export", &Replay::export_snapshot},
                                                    {"import", &Replay::import_snapshot},
                                                    {"live", &Replay::live},
                                                    {"length", &Replay::length},
                                                    {"floor", &Replay::floor},
                                                    {"stats", &Replay::stats},
                                                    {"publish", &Replay::publish},
                                                    {"lookup", &Replay::lookup},
                                                    {"unpublish", &Replay::unpublish},
                                                    {"prefix_clear", &Replay::prefix_clear},
                                                    {"prefix_budget", &Replay::prefix_budget},
                                                    {"prefix_stats", &Replay::prefix_stats}};
    return all;
}

Outcome Replay::run(const Operation& operation) {
    const auto verb = verbs().find(operation.verb);
    if (verb == verbs().end()) throw std::runtime_error("unknown operation " + operation.verb);
    error_ = kvc_error{};
    error_.struct_size = sizeof error_;
    Outcome outcome;
    (this->*verb->second)(operation, outcome);
    outcome.message = error_.message;
    if (outcome.status != KVC_OK) outcome.bytes.clear();
    return outcome;
}

void ScriptDigest::add(const Outcome& outcome) {
    hash_.add_value(outcome.status);
    hash_.add(outcome.bytes.data(), outcome.bytes.size());
}

const StepRecord& Replay::step(const std::string& name) const {
    static const StepRecord none;
    const auto found = steps_.find(name);
    return found == steps_.end() ? none : found->second;
}

uint64_t Replay::data_of(const std::string& sequence) const {
    const auto found = data_.find(sequence);
    return found == data_.end() ? 0 : found->second;
}

int64_t Replay::first_position(const std::string& sequence) const {
    const auto found = first_positions_.find(sequence);
    return found == first_positions_.end() ? 0 : found->second;
}

kvc_seq Replay::handle_of(const std::string& sequence) const {
    const auto found = sequences_.find(sequence);
    return found == sequences_.end() ? 0 : found->second;
}

void Replay::adopt(const std::string& name, kvc_seq handle, const Replay& other, const std::string& like) {
    sequences_[name] = handle;
    data_[name] = other.data_of(like);
    first_positions_[name] = other.first_position(like);
}

// ---- Cache ----

void Replay::layer(const Operation& operation, Outcome&) { shapes_.lines[std::stoll(operation.name(0))] = operation; }

void Replay::create(const Operation& operation, Outcome& outcome) {
    if (cache_) throw std::runtime_error("a script has one cache");
    shapes_.create(operation);
    shapes_.options.threads = run_options_.threads;
    std::strncpy(shapes_.options.target, run_options_.target.c_str(), sizeof shapes_.options.target - 1);
    shapes_.options.device = device_of_scripts();
    shapes_.options.device_ordinal = shapes_.options.device == KVC_CUDA ? run_options_.ordinal : 0;
    for (int64_t i = 0; i < kvc_target_count() && shapes_.options.device == KVC_CUDA; i++) {
        if (run_options_.target == kvc_target_name(i)) shapes_.options.device_ordinal = i;  // device i has these kernels
    }
    const bool uniform = shapes_.uniform();
    cache_ = kvc_create(&shapes_.options, uniform ? nullptr : shapes_.layers.data(), uniform ? 0 : shapes_.options.layers, &error_);
    outcome.status = cache_ ? int32_t{KVC_OK} : error_.status;
}

void Replay::plan(const Operation& operation, Outcome& outcome) {
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = operation.number("tokens"), request.sequences = operation.number("sequences");
    request.step_tokens = operation.number("step_tokens"), request.budget_bytes = operation.number("budget_bytes");
    request.partial_commit = static_cast<int32_t>(operation.number("partial_commit"));
    kvc_plan plan{};
    plan.struct_size = sizeof plan;
    const bool uniform = shapes_.uniform();
    outcome.status = kvc_plan_compute(&shapes_.options, uniform ? nullptr : shapes_.layers.data(), uniform ? 0 : shapes_.options.layers,
                                      &request, &plan, &error_);
    outcome.set_numbers({plan.arena_bytes, plan.slab_bytes, plan.record_bytes, plan.fp16_bytes, plan.max_tokens, plan.max_sequences});
}

void Replay::sink_logits(const Operation& operation, Outcome& outcome) {
    const std::vector<float> logits = sink_logits_of(operation, shapes_);
    outcome.status =
        kvc_sink_logits_set(cache_, operation.number("layer"), logits.data(), static_cast<int64_t>(logits.size()), &error_);
}

void Replay::stats(const Operation& operation, Outcome& outcome) {
    if (!operation.names.empty()) {
        kvc_seq_stats s{};
        s.struct_size = sizeof s;
        outcome.status = kvc_seq_stats_get(cache_, handle_of(operation.name(0)), &s, &error_);
        outcome.set_numbers({s.tokens, s.record_bytes, s.shared_bytes, s.fp16_bytes});
        return;
    }
    kvc_stats s{};
    s.struct_size = sizeof s;
    outcome.status = kvc_stats_get(cache_, &s, &error_);
    outcome.set_numbers({s.arena_bytes, s.bound_bytes, s.record_bytes, s.sink_bytes, s.window_bytes, s.code_bytes, s.reserved_bytes,
                         s.side_bytes, s.sequences, s.open_steps, s.tokens_appended, s.tokens_evicted, s.pages_quantized,
                         s.tokens_requantized});
}

// ---- Sequences ----

void Replay::seq(const Operation& operation, Outcome& outcome) {
    kvc_seq_options o;
    kvc_seq_options_init(&o, sizeof o);
    o.first_position = operation.number("first_position"), o.prompt_length = operation.number("prompt_length");
    const kvc_seq made = kvc_seq_create(cache_, &o, &error_);
    outcome.status = made ? int32_t{KVC_OK} : error_.status;
    if (!made) return;
    sequences_[operation.name(0)] = made;
    data_[operation.name(0)] = operation.seed("data");
    first_positions_[operation.name(0)] = o.first_position;
}

void Replay::fork(const Operation& operation, Outcome& outcome) {
    const std::string& from = operation.name(1);
    const kvc_seq made = kvc_seq_fork(cache_, handle_of(from), operation.number("length"), cut_of(operation), &error_);
    outcome.status = made ? int32_t{KVC_OK} : error_.status;
    if (!made) return;
    sequences_[operation.name(0)] = made;
    data_[operation.name(0)] = operation.has("data") ? operation.seed("data") : data_of(from);
    first_positions_[operation.name(0)] = first_position(from);
}

void Replay::truncate(const Operation& operation, Outcome& outcome) {
    outcome.status = kvc_seq_truncate(cache_, handle_of(operation.name(0)), operation.number("length"), cut_of(operation), &error_);
}

void Replay::destroy(const Operation& operation, Outcome& outcome) {
    outcome.status = kvc_seq_destroy(cache_, handle_of(operation.name(0)), &error_);
}

void Replay::prompt(const Operation& operation, Outcome& outcome) {
    outcome.status = kvc_seq_prompt_set(cache_, handle_of(operation.name(0)), operation.number("end"), &error_);
}

void Replay::length(const Operation& operation, Outcome& outcome) {
    int64_t value = 0;
    outcome.status = kvc_seq_length(cache_, handle_of(operation.name(0)), &value, &error_);
    outcome.set_numbers({value});
}

void Replay::floor(const Operation& operation, Outcome& outcome) {
    int64_t value = 0;
    outcome.status = kvc_seq_exact_floor(cache_, handle_of(operation.name(0)), &value, &error_);
    outcome.set_numbers({value});
}

void Replay::live(const Operation& operation, Outcome& outcome) {
    int64_t value = 0;
    outcome.status =
        kvc_seq_live(cache_, handle_of(operation.name(0)), operation.number("layer"), operation.number("head"), &value, &error_);
    outcome.set_numbers({value});
}

}  // namespace kvc_scripts

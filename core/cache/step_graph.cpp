// Steps that name a graph: those that are captured, and those that replay what was.
#include "core/cache/cache.h"
#include "core/cache/graph.h"
#include "core/cache/step.h"

namespace kvc {

// ---- capture: calls are recorded, and nothing is reserved, computed or published ----

// Under the exclusive lock. The device is asked for nothing that a capture forbids.
Result<std::unique_ptr<Step>> Cache::open_recording(std::span<const int64_t> ids, std::span<const int64_t> counts,
                                                    std::span<const int64_t> positions, const StepOptions& options) {
    std::unique_ptr<Step> step(new Step(*this));
    step->options_ = options;
    step->recording_ = true;
    for (size_t i = 0; i < ids.size(); i++) {
        Result<Sequence*> sequence = require_idle(ids[i]);
        if (!sequence.ok()) return sequence.status();
        KVC_TRY(check_guard(ids[i], **sequence, positions.empty() ? nullptr : &positions[i]));
        step->sequences_.push_back({ids[i], *sequence, counts[i], step->tokens_, {}, {}});
        step->tokens_ += counts[i];
    }
    KVC_TRY(step->check_device());
    step->layers_.resize(layers_.size());
    Result<std::unique_ptr<GraphExecutor>> recorder = options.graph->device_->record(options.stream);
    if (!recorder.ok()) return recorder.status();
    step->use_graph_executor(std::move(*recorder));
    step->phase_ = Step::Phase::open;
    for (StepSequence& part : step->sequences_)
        part.sequence->in_step = true;
    options.graph->in_step_ = true;
    open_steps_++;
    return step;
}

void Step::use_graph_executor(std::unique_ptr<GraphExecutor> executor) {
    graph_executor_ = executor.get();
    device_executor_ = std::move(executor);
    executor_ = graph_executor_;
    states_ = graph_executor_->states();
}

// One job of each kind stands for all that there can be.
Status Step::record_append(size_t layer, const void* k, const void* v) {
    const Layer& shape = cache_.layers_[layer];
    const StoreParams store = store_params(shape);
    const QuantizeParams code = {&shape.format, nullptr, nullptr};
    recorded_.reserve(recorded_.size() + 1);
    executor_->start(layer);
    const Result<BadToken> queued = executor_->append({&store, 1}, {&code, shape.rule.lossless ? size_t{0} : size_t{1}}, {});
    if (!queued.ok()) return queued.status();
    recorded_.push_back({layer, true, k, v, {}, false});
    return {};
}

Status Step::commit_recording() {
    Result<Cache::Exclusive> lock = cache_.exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(graph_executor_->seal());
    options_.graph->options_ = options_;
    options_.graph->calls_ = std::move(recorded_);
    close();
    return {};
}

Status Step::refuse_in_replay(const char* what) const {
    if (!options_.graph || recording_) return {};
    return fail(Code::order, what, ": the step replays a graph, which holds its calls");
}

// ---- replay ----

// The tables of all recorded calls, as append and attend make them; the last thing that begin does.
Status Step::replay_calls() {
    for (const GraphCall& call : options_.graph->calls_) {
        LayerStep& layer = layers_[call.layer];
        KVC_TRY(noted(call.is_append ? run_append(call.layer, call.k, call.v) : run_attend(call.layer, call.request)));
        layer.appended = true;
    }
    KVC_TRY(noted(graph_executor_->seal()));
    count_work();
    return {};
}

}  // namespace kvc

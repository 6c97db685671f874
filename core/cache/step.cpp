// Begin and abort: everything a step can need is reserved here, or nothing is.
#include "core/cache/step.h"

#include <algorithm>
#include <utility>

#include "core/base/capacity.h"
#include "core/cache/automatic.h"
#include "core/cache/cache.h"
#include "core/cache/graph.h"

namespace kvc {
namespace {

constexpr int64_t count_limit = int64_t{1} << 40;
// Mass counts in units of 2^-30 and a query adds at most 2^30: an int64 holds this many queries.
constexpr int64_t mass_query_limit = (int64_t{1} << 33) - 1;

Status check_counts(std::span<const int64_t> ids, std::span<const int64_t> counts) {
    for (size_t i = 0; i < counts.size(); i++) {
        if (counts[i] < 0 || counts[i] > count_limit) {
            return fail(Code::argument, "step: token count ", counts[i], " of entry ", int64_t(i), " is out of range (0 .. 2^40)");
        }
    }
    std::vector<int64_t> sorted(ids.begin(), ids.end());
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) return fail(Code::argument, "step: sequence ", *twice, " appears twice");
    return {};
}

}  // namespace

Result<std::unique_ptr<Step>> Cache::begin(std::span<const int64_t> ids, std::span<const int64_t> counts,
                                           std::span<const int64_t> positions, const StepOptions& options) {
    KVC_TRY(check_counts(ids, counts));
    if (options.accumulate && options.partial_commit) {
        return fail(Code::argument, "step: accumulate and partial_commit exclude each other (rejected queries would leave mass)");
    }
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    bool captures = false;
    if (options.graph) KVC_TRY(check_graph_step(ids, counts, options, &captures));
    if (captures) return open_recording(ids, counts, positions, options);
    std::vector<int64_t> needs;  // of a step that only lacked records
    Result<std::unique_ptr<Step>> step = open_step(ids, counts, positions, options, &needs);
    const auto lacks_room = [&] { return !step.ok() && step.status().code == Code::no_memory; };
    if (lacks_room() && compact()) step = open_step(ids, counts, positions, options, &needs);
    if (lacks_room() && make_room(needs, nullptr)) step = open_step(ids, counts, positions, options, &needs);
    return step;
}

// Under the exclusive lock. A step that could not reserve everything takes back what it has when it is destroyed.
Result<std::unique_ptr<Step>> Cache::open_step(std::span<const int64_t> ids, std::span<const int64_t> counts,
                                               std::span<const int64_t> positions, const StepOptions& options,
                                               std::vector<int64_t>* needs) {
    needs->clear();
    std::unique_ptr<Step> step(new Step(*this));
    step->options_ = options;
    step->options_.accumulate |= policy_ && policy_.policy->traits.mass != MassUse::none;
    step->by_pages_ = policy_.sums_pages();
    for (size_t i = 0; i < ids.size(); i++) {
        Result<Sequence*> sequence = require_idle(ids[i]);
        if (!sequence.ok()) return sequence.status();
        KVC_TRY(check_guard(ids[i], **sequence, positions.empty() ? nullptr : &positions[i]));
        KVC_TRY(settle_overdue(ids[i], **sequence));
        KVC_TRY(settle_ages(ids[i], **sequence));
        const StepSequence part = {ids[i],
                                   *sequence,
                                   counts[i],
                                   step->tokens_,
                                   mass_observation(policy_, **sequence, counts[i]),
                                   query_observation(policy_, **sequence, counts[i])};
        KVC_TRY(step->check_policy(part));
        step->sequences_.push_back(part);
        step->tokens_ += counts[i];
    }
    if (Status reserved = step->reserve(); !reserved.ok()) {
        *needs = step->record_needs();
        return reserved;
    }
    for (StepSequence& part : step->sequences_)
        part.sequence->in_step = true;
    if (options.graph) options.graph->in_step_ = true;
    step->phase_ = Step::Phase::open;
    open_steps_++;
    return step;
}

// A guard against lost updates, if the caller gave one.
Status Cache::check_guard(int64_t id, const Sequence& sequence, const int64_t* position) const {
    const int64_t at = sequence.first_position + sequence.length;
    if (!position || *position == at) return {};
    return fail(Code::argument, "step: sequence ", id, " is at position ", at, ", not at ", *position);
}

Step::~Step() {
    if (phase_ == Phase::open) (void)drop();
    if (phase_ == Phase::reserving) {
        cut_reservations();  // begin failed half-way, under the cache's lock
        release_staging();
    }
}

Status Step::reserve() {
    KVC_TRY(check_device());
    layers_.resize(cache_.layers_.size());
    for (size_t i = 0; i < layers_.size(); i++) {
        for (const StepSequence& part : sequences_) {
            const Sequence& sequence = *part.sequence;
            layers_[i].needs.push_back(
                step_need(cache_.layers_[i].rule, sequence.layers[i].state, sequence.length, part.count, keeps_all_layers()));
        }
    }
    KVC_TRY(check_mass());
    KVC_TRY(check_room());
    for (size_t b = 0; b < sequences_.size(); b++)
        KVC_TRY(reserve_sequence(b));
    KVC_TRY(reserve_staging());
    if (options_.accumulate) reserve_mass();
    if (cache_.policy_ && cache_.policy_.policy->traits.queries) reserve_queries();
    KVC_TRY(reserve_scratch());
    return options_.graph ? replay_calls() : Status{};
}

// Mass must not overflow however long a sequence lives.
Status Step::check_mass() const {
    if (!options_.accumulate) return {};
    for (const StepSequence& part : sequences_) {
        for (const Layer& layer : cache_.layers_) {
            if (part.queries_before() + part.observation.queries <= mass_query_limit / layer.group()) continue;
            return fail(Code::argument, "step: sequence ", part.id, " has accumulated mass of ", part.queries_before(),
                        " queries, and ", part.observation.queries, " more exceed the limit of ", mass_query_limit / layer.group());
        }
    }
    return {};
}

// Refuses what no arena of this cache could ever hold, before the tables for it take gigabytes of the host's memory.
Status Step::check_room() const {
    Size bytes = 0;
    for (size_t i = 0; i < layers_.size(); i++) {
        const Layer& layer = cache_.layers_[i];
        for (const StepNeed& need : layers_[i].needs) {
            bytes =
                bytes + (Size(need.window) * layer.format.window_bytes + Size(need.codes) * layer.format.code_bytes) * layer.kv_heads;
        }
    }
    if (bytes.valid() && bytes.value() <= cache_.arena_->limit_bytes()) return {};
    return fail(Code::no_memory, "step: ", tokens_, " tokens do not fit an arena of at most ", cache_.arena_->limit_bytes(), " bytes");
}

// The records that reserve() takes, by size class.
std::vector<int64_t> Step::record_needs() const {
    std::vector<int64_t> needs(cache_.arena_->class_count()), staged(needs.size());
    const auto add = [&](int size_class, int64_t records) {
        if (size_class >= 0) needs[size_t(size_class)] += records;
    };
    for (size_t i = 0; i < layers_.size(); i++) {
        const Cache::LayerClasses& classes = cache_.classes_[i];
        const int64_t heads = cache_.layers_[i].kv_heads;
        int64_t staging = 0;
        for (const StepNeed& need : layers_[i].needs) {
            add(classes.sinks, need.sinks * heads);
            add(classes.window, need.window * heads);
            add(classes.codes, need.codes * heads);
            staging += need.staged * heads;
        }
        int64_t& most = staged[size_t(classes.window)];
        most = std::max(most, staging);
    }
    for (size_t c = 0; c < needs.size(); c++)
        needs[c] += staged[c];
    return needs;
}

Status Step::reserve_sequence(size_t b) {
    const StepSequence& part = sequences_[b];
    Sequence& sequence = *part.sequence;
    for (size_t i = 0; i < layers_.size(); i++) {
        for (HeadPages& head : sequence.layers[i].heads) {
            if (!reserve_head(i, layers_[i].needs[b], sequence.layers[i], head, sequence.length)) {
                return fail(Code::no_memory, "step: the arena of ", cache_.arena_->total_bytes(), " bytes has no room for ", part.count,
                            " tokens of sequence ", part.id);
            }
        }
    }
    return {};
}

bool Step::reserve_head(size_t layer, const StepNeed& need, const LayerPages& pages, HeadPages& head, int64_t length) {
    Arena& arena = *cache_.arena_;
    const PageRule& rule = cache_.layers_[layer].rule;
    const Cache::LayerClasses& classes = cache_.classes_[layer];
    const int64_t new_codes = rule.lossless ? need.window : need.codes;  // lossless: room for pages that change their name
    head.coded.reserve(size_t(pages.state.coded_end - pages.state.first_coded + new_codes + 1));
    head.window.reserve(head.window.size() + size_t(need.staged + need.window));
    if (need.sinks > 0) {
        head.sinks = arena.allocate(classes.sinks);
        if (!head.sinks) return false;
    }
    const int64_t first_new = std::max(rule.pages(length), pages.state.first_window);
    head.window.resize(size_t(first_new - pages.state.first_window + need.staged));  // staged pages get their records at append
    for (int64_t i = 0; i < need.window; i++) {
        const RecordId id = arena.allocate(classes.window);
        if (!id) return false;
        head.window.push_back({id, 0, all_live});
    }
    for (int64_t i = 0; i < need.codes; i++) {
        const RecordId id = arena.allocate(classes.codes);
        if (!id) return false;
        head.coded.push_back({id, 0, all_live});
    }
    return true;
}

Status Step::reserve_staging() {
    for (size_t i = 0; i < layers_.size(); i++) {
        const int size_class = cache_.classes_[i].window;
        size_t index = 0;
        while (index < staging_.size() && staging_[index].size_class != size_class)
            index++;
        if (index == staging_.size()) staging_.push_back({size_class, -1, {}});
        staging_of_.push_back(index);
        int64_t records = 0;
        for (const StepNeed& need : layers_[i].needs)
            records += need.staged * cache_.layers_[i].kv_heads;
        Staging& staging = staging_[index];
        staging.records.reserve(size_t(records));
        while (int64_t(staging.records.size()) < records) {
            const RecordId id = cache_.arena_->allocate(size_class);
            if (!id) return fail(Code::no_memory, "step: the arena has no room for the staging of ", tokens_, " tokens");
            staging.records.push_back(id);
        }
    }
    return {};
}

void Step::release_staging() {
    for (const Staging& staging : staging_) {
        for (RecordId id : staging.records)
            cache_.arena_->release(id);
    }
    staging_.clear();
}

void Step::reserve_mass() {
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = cache_.layers_[i].rule;
        for (const StepSequence& part : sequences_) {
            const int64_t length = part.sequence->length + part.count;
            for (HeadPages& head : part.sequence->layers[i].heads) {
                const int64_t coded = int64_t(head.coded.size()) + (rule.lossless ? rule.pages(length) : 0);
                const int64_t counters = by_pages_ ? 1 : page_tokens;  // of a page
                HeadMass mass;
                mass.sinks.resize(by_pages_ ? 1 : size_t(rule.sinks));
                mass.coded.resize(size_t(coded * counters));
                mass.window.resize(head.window.size() * size_t(counters));
                layers_[i].mass.push_back(std::move(mass));
                // In proportion, so that a token does not copy the mass of all before it.
                if (int64_t(head.mass.capacity()) < length) head.mass.reserve(size_t(length + length / 8 + page_tokens));
            }
        }
    }
}

// Heap of the step beyond its scratch.
int64_t Step::table_bytes() const {
    int64_t bytes = int64_t(sizeof(Step)) + capacity_bytes(sequences_) + capacity_bytes(layers_) + capacity_bytes(staging_) +
                    capacity_bytes(staging_of_) + capacity_bytes(append_.stores) + capacity_bytes(append_.codes) +
                    capacity_bytes(append_.groups) + capacity_bytes(out_rows_) + capacity_bytes(recorded_);
    for (const LayerStep& layer : layers_) {
        bytes += capacity_bytes(layer.needs) + capacity_bytes(layer.mass) + capacity_bytes(layer.queries);
        for (const HeadMass& mass : layer.mass)
            bytes += capacity_bytes(mass.sinks) + capacity_bytes(mass.coded) + capacity_bytes(mass.window);
        for (const QuerySums& sums : layer.queries)
            bytes += capacity_bytes(sums.sum) + capacity_bytes(sums.square);
    }
    for (const Staging& staging : staging_)
        bytes += capacity_bytes(staging.records);
    return bytes;
}

// Takes back what begin reserved, leaving every table as it was; also after a begin that failed half-way.
void Step::cut_reservations() {
    Arena& arena = *cache_.arena_;
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = cache_.layers_[i].rule;
        for (size_t b = 0; b < layers_[i].needs.size(); b++) {
            Sequence& sequence = *sequences_[b].sequence;
            const PageState& state = sequence.layers[i].state;
            const StepNeed& need = layers_[i].needs[b];
            const size_t coded = size_t(state.coded_end - state.first_coded);
            const size_t window = size_t(std::max<int64_t>(0, rule.pages(sequence.length) - state.first_window));
            for (HeadPages& head : sequence.layers[i].heads) {
                for (size_t e = coded; e < head.coded.size(); e++) {
                    if (!rule.lossless) arena.release(head.coded[e].record);
                }
                if (head.coded.size() > coded) head.coded.resize(coded);
                for (size_t e = window + size_t(need.staged); e < head.window.size(); e++)
                    arena.release(head.window[e].record);
                if (head.window.size() > window) head.window.resize(window);
                if (need.sinks > 0 && head.sinks) {
                    arena.release(head.sinks);
                    head.sinks = 0;
                }
            }
        }
    }
}

// Under the cache's lock: gives back what belongs to the step alone and lets the sequences go.
void Step::close() {
    release_staging();
    device_executor_.reset();  // before another step can take what its kernels use
    for (StepSequence& part : sequences_)
        part.sequence->in_step = false;
    if (options_.graph) options_.graph->in_step_ = false;
    cache_.step_scratch_bytes_ -= scratch_bytes_;
    cache_.open_steps_--;
    phase_ = Phase::ended;
}

// Another thread may have ended the step while this call waited for its turn.
Status Step::check_open(const char* what) const {
    return phase_ == Phase::open ? Status{} : fail(Code::handle, what, ": not an open step");
}

void Step::count_work() {
    cache_.counters_.pages_quantized += std::exchange(pages_quantized_, 0);
    cache_.counters_.slow_calls += std::exchange(slow_calls_, 0);
}

Status Step::abort() {
    std::lock_guard call(mutex_);
    KVC_TRY(check_open("step_abort"));
    const Status may_end = device_executor_ ? device_executor_->may_end() : Status{};
    return may_end.code == Code::capture ? may_end : drop();  // a step of a lost cache may end
}

Status Step::drop() {
    Result<Cache::Exclusive> lock = cache_.exclusive_for_release();
    if (!lock.ok()) return lock.status();
    cut_reservations();
    close();
    return {};
}

}  // namespace kvc

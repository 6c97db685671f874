// A step whose kernels run on a device: what is refused, the buffers that travel, and the device's scratch.
#include <algorithm>

#include "core/cache/cache.h"
#include "core/cache/graph.h"
#include "core/cache/step.h"

namespace kvc {
namespace {

constexpr int64_t buffer_alignment = 256;
// A sequence whose cache is never synchronized waits for the device after so many steps.
constexpr size_t unsettled_limit = 1024;

}  // namespace

Status Step::check_device() const {
    if (options_.accumulate && !cache_.kernels_->sums_mass)
        return fail(Code::unsupported, "step: accumulate: target ", cache_.kernels_->name, " has no kernels for attention mass");
    if (!cache_.device_) {
        if (options_.device_buffers) return fail(Code::argument, "step: buffers in a device's memory, and the cache is on the host");
        if (options_.stream) return fail(Code::argument, "step: a stream, and the cache is on the host");
        return {};
    }
    if (!options_.device_buffers) return {};
    const char* const why = "looks at queries on the host, so that buffers must lie there";
    if (cache_.rope_.in_cache && !cache_.rope_.keys_before)
        return fail(Code::unsupported, "step: with in-cache positions of keys after RoPE kvc ", why);
    if (cache_.policy_ && cache_.policy_.policy->traits.queries)
        return fail(Code::unsupported, "step: policy ", cache_.policy_.name(), " ", why);
    return {};
}

// The most that one call moves between host and device.
Status Step::size_buffers(DeviceStep* step) {
    if (options_.device_buffers) return {};
    const auto padded = [&](int64_t heads, int64_t dim, const BufferLayout& layout) {
        return reach_of_buffer(tokens_, heads, dim, dense(layout, heads, dim)) + Size(buffer_alignment);
    };
    for (size_t i = 0; i < layers_.size(); i++) {
        const Layer& layer = cache_.layers_[i];
        const int64_t k_dim = layer.format.k_dim, v_dim = layer.format.v_dim, q_heads = layer.q_heads;
        const Size appended = padded(layer.kv_heads, k_dim, options_.k) + padded(layer.kv_heads, v_dim, options_.v);
        const Size asked = padded(q_heads, k_dim, options_.q) + padded(q_heads, k_dim, {Dtype::f32});
        const BufferLayout out = gathers_out(i) ? BufferLayout{options_.out.dtype} : options_.out;
        const Size given = padded(q_heads, v_dim, out) + padded(q_heads, 1, {Dtype::f32});
        if (!appended.valid() || !asked.valid() || !given.valid())
            return fail(Code::argument, "step: strides of the buffers reach beyond 2^63 bytes");
        step->in_bytes = std::max({step->in_bytes, appended.value(), asked.value()});
        step->out_bytes = std::max(step->out_bytes, given.value());
        if (gathers_out(i)) out_rows_.resize(std::max(out_rows_.size(), size_t(given.value())));
    }
    return {};
}

// A round holds more than half of what there is room for, or is the only one, so that there are at most two to each such room.
int64_t Step::rounds_of(const ScratchNeeds& whole) const {
    const int64_t of_sums = sum_room_ > 0 ? ceil_div(2 * whole.sums, sum_room_) : 0;
    return int64_t(layers_.size()) + (state_floats_ > 0 ? ceil_div(2 * whole.states, state_floats_) : 0) + of_sums;
}

Status Step::open_device(const ScratchNeeds& needs, const ScratchNeeds& whole) {
    for (const StepSequence& part : sequences_) {
        if (part.sequence->unsettled.size() >= unsettled_limit) KVC_TRY(cache_.settle());
        std::vector<UnsettledStore>& unsettled = part.sequence->unsettled;  // commit adds one, and must not fail
        if (unsettled.size() == unsettled.capacity()) unsettled.reserve(2 * unsettled.size() + 8);
    }
    DeviceStep step;
    step.stream = options_.stream;
    step.device_buffers = options_.device_buffers;
    step.slabs = cache_.arena_->view().slabs;
    step.slab_count = cache_.arena_->slab_count();
    step.store_jobs = needs.stores;
    step.quantize_jobs = needs.codes;
    step.items = needs.items;
    step.entries = needs.entries;
    step.counts = needs.counts;
    step.kept_entries = needs.kept_entries;
    step.tiles = needs.tiles;
    step.state_floats = state_floats_;
    step.lse_floats = options_.accumulate ? needs.lse : 0;
    step.page_sums = sum_room_;
    // Stores and codes once a layer; attend, finish and mass in each round.
    step.whole = {2 * int64_t(layers_.size()) + 3 * rounds_of(whole),
                  whole.stores,
                  whole.codes,
                  whole.items,
                  whole.tiles,
                  whole.entries,
                  whole.counts};
    KVC_TRY(size_buffers(&step));
    if (options_.graph) {
        Result<std::unique_ptr<GraphExecutor>> replay = options_.graph->device_->replay(step);
        if (!replay.ok()) return noted(replay.status());
        use_graph_executor(std::move(*replay));
    } else {
        Result<std::unique_ptr<DeviceExecutor>> opened = cache_.device_->begin(step);
        if (!opened.ok()) return noted(opened.status());
        states_ = (*opened)->states();
        lse_ = (*opened)->lse();
        page_sums_ = by_pages_ ? (*opened)->page_sums() : nullptr;
        device_executor_ = std::move(*opened);
        executor_ = device_executor_.get();
    }
    first_tag_ = cache_.next_tag_;
    cache_.next_tag_ += int64_t(sequences_.size());
    return {};
}

// Where kernels find a caller's buffer.
Result<const void*> Step::bring(const void* buffer, int64_t heads, int64_t dim, const BufferLayout& layout) {
    if (!cache_.device_) return buffer;
    const int64_t bytes = reach_of_buffer(tokens_, heads, dim, layout).value();
    if (!options_.device_buffers) cache_.counters_.bytes_staged += bytes;
    return executor_->input(buffer, bytes);
}

// Rows with gaps between them: a copy of the whole range would write over what is in the gaps.
bool Step::gathers_out(size_t layer) const {
    const Layer& shape = cache_.layers_[layer];
    const BufferLayout out = dense(options_.out, shape.q_heads, shape.format.v_dim);
    return cache_.device_ && !options_.device_buffers && !is_dense(out, shape.q_heads, shape.format.v_dim);
}

// A device that fails is lost for good.
Status Step::noted(Status status) const {
    if (status.code == Code::device) cache_.arena_->note_fault(status);
    return status;
}

}  // namespace kvc

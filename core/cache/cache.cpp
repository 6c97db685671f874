#include "core/cache/cache.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <unistd.h>

#include "core/cache/parts.h"

namespace kvc {
namespace {

// A sequence id: 16 bits that tell caches apart, 23 of generation, 24 of slot; bit 63 is 0.
constexpr int slot_bits = 24, generation_bits = 23;
constexpr uint32_t generation_limit = (1u << generation_bits) - 1;
constexpr int64_t cache_tags = 0xffff;
constexpr int64_t position_limit = int64_t{1} << 53;

int64_t next_cache_tag() {
    static std::atomic<int64_t> caches{0};
    return caches++ % cache_tags + 1;
}

}  // namespace

Result<std::shared_ptr<Cache>> Cache::create(const CacheConfig& config) {
    Result<CacheParts> parts = check_parts(config, ArenaSize::required);
    if (!parts.ok()) return parts.status();
    Result<std::unique_ptr<Arena>> arena = Arena::create(parts->arena, record_sizes(parts->layers));
    if (!arena.ok()) return arena.status();

    std::shared_ptr<Cache> cache(new Cache);
    cache->layers_ = std::move(parts->layers);
    cache->has_ages_ = has_ages(cache->layers_);
    cache->kernels_ = parts->kernels;
    cache->device_ = config.device;
    cache->arena_ = std::move(*arena);
    cache->saturate_ = config.saturate;
    cache->rope_ = config.rope;
    cache->policy_ = std::move(parts->policy);
    cache->context_tokens_ = config.context_tokens;
    cache->tag_ = next_cache_tag();
    cache->owner_process_ = getpid();
    cache->sink_logits_.resize(cache->layers_.size());
    cache->side_class_ = cache->arena_->class_of(side_bytes);
    for (const Layer& layer : cache->layers_) {
        const LayerFormat& format = layer.format;
        cache->classes_.push_back({cache->arena_->class_of(format.sink_bytes), cache->arena_->class_of(format.window_bytes),
                                   cache->arena_->class_of(format.code_bytes)});
        // Kernels want so much per thread; append rehearses into a 16-bit record.
        cache->thread_scratch_bytes_ = std::max(cache->thread_scratch_bytes_, format.window_bytes);
        for (int64_t r = 0; r < layer.rungs() && !cache->device_; r++) {
            const int64_t kernel_bytes = cache->kernels_->scratch_bytes(layer.rung(r), layer.group(), page_tokens);
            cache->thread_scratch_bytes_ = std::max(cache->thread_scratch_bytes_, kernel_bytes);
        }
    }
    cache->pool_ = ThreadPool::start(config.threads, cache->thread_scratch_bytes_);
    return cache;
}

Cache::~Cache() {
    for (const auto& [buffer, pinned] : buffers_)
        release_buffer(buffer, pinned);
}

Result<Cache::Exclusive> Cache::exclusive() const {
    Result<Exclusive> lock = exclusive_for_release();
    if (lock.ok()) KVC_TRY(arena_->fault());
    return lock;
}

Result<Cache::Exclusive> Cache::exclusive_for_release() const {
    if (getpid() == owner_process_) return Exclusive(state_);
    Exclusive lock(state_, std::try_to_lock);
    if (lock.owns_lock()) return lock;
    return fail(Code::forked, "cache: the process forked while another thread was changing this cache");
}

Result<Cache::Shared> Cache::shared() const {
    if (getpid() == owner_process_) return Shared(state_);
    Shared lock(state_, std::try_to_lock);
    if (lock.owns_lock()) return lock;
    return fail(Code::forked, "cache: the process forked while another thread was changing this cache");
}

int64_t Cache::id_of(uint32_t slot) const {
    return tag_ << (slot_bits + generation_bits) | int64_t{slots_[slot].generation} << slot_bits | slot;
}

Sequence* Cache::find(int64_t id) const {
    const int64_t slot = id & ((int64_t{1} << slot_bits) - 1);
    if (slot >= int64_t(slots_.size()) || id != id_of(uint32_t(slot))) return nullptr;
    return slots_[size_t(slot)].sequence.get();
}

Result<Sequence*> Cache::require(int64_t id) const {
    Sequence* sequence = find(id);
    if (!sequence) return fail(Code::handle, "sequence ", id, " does not exist in this cache");
    if (sequence->bad_from < sequence->length) return bad_token(id, *sequence);
    return sequence;
}

Result<Sequence*> Cache::require_idle(int64_t id) const {
    Result<Sequence*> sequence = require_present(id);
    if (sequence.ok() && (*sequence)->bad_from < (*sequence)->length) return bad_token(id, **sequence);
    return sequence;
}

Result<Sequence*> Cache::require_present(int64_t id) const {
    Sequence* sequence = find(id);
    if (!sequence) return fail(Code::handle, "sequence ", id, " does not exist in this cache");
    if (sequence->in_step) return fail(Code::busy, "sequence ", id, " belongs to an open step");
    return sequence;
}

Status Cache::check_layer_head(int64_t layer, int64_t head) const {
    if (layer < 0 || layer >= int64_t(layers_.size())) {
        return fail(Code::argument, "layer ", layer, " is out of range (layers = ", int64_t(layers_.size()), ")");
    }
    const int64_t heads = layers_[size_t(layer)].kv_heads;
    if (head < 0 || head >= heads) return fail(Code::argument, "head ", head, " is out of range (kv_heads = ", heads, ")");
    return {};
}

Status Cache::set_sink_logits(int64_t layer, std::span<const float> logits) {
    KVC_TRY(check_layer_head(layer, 0));
    const int64_t heads = layers_[size_t(layer)].q_heads;
    if (!logits.empty() && int64_t(logits.size()) != heads) {
        return fail(Code::argument, "sink logits: ", int64_t(logits.size()), " given, the layer has ", heads, " query heads");
    }
    for (float x : logits) {
        if (!(x - x == 0)) return fail(Code::nonfinite, "sink logits of layer ", layer, " hold a number that is not finite");
    }
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    if (open_steps_ > 0) return fail(Code::busy, "sink logits: ", open_steps_, " steps are open");
    sink_logits_[size_t(layer)].assign(logits.begin(), logits.end());
    return {};
}

Status Cache::set_rope_frequencies(int64_t layer, std::span<const double> frequencies) {
    KVC_TRY(check_layer_head(layer, 0));
    std::vector<double>& own = layers_[size_t(layer)].rope_frequencies;
    if (own.empty()) {
        return fail(Code::argument,
                    "rope frequencies: this cache turns nothing, for keys come after RoPE (options.keys) at true positions "
                    "(options.positions)");
    }
    if (own.size() != frequencies.size()) {
        return fail(Code::argument, "rope frequencies: ", int64_t(frequencies.size()), " given, the layer turns ", int64_t(own.size()),
                    " pairs");
    }
    for (double x : frequencies) {
        if (!std::isfinite(x)) return fail(Code::nonfinite, "rope frequencies of layer ", layer, " hold a number that is not finite");
        if (std::abs(x) > rope_frequency_limit) {
            return fail(Code::argument, "rope frequencies of layer ", layer, ": ", x, " is beyond the limit of ", rope_frequency_limit);
        }
    }
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    if (!slots_.empty()) return fail(Code::order, "rope frequencies: the cache has had sequences");
    own.assign(frequencies.begin(), frequencies.end());
    return {};
}

Status Cache::check_frequencies() const {
    for (size_t i = 0; i < layers_.size(); i++) {
        const std::vector<double>& rope = layers_[i].rope_frequencies;
        if (!rope.empty() && std::isnan(rope[0])) {
            return fail(Code::order, "seq_create: layer ", int64_t(i), " has neither rope_theta nor frequencies of the caller's");
        }
    }
    return {};
}

Result<uint32_t> Cache::take_slot() {
    if (free_slots_.empty()) {
        if (slots_.size() >= size_t{1} << slot_bits)
            return fail(Code::no_memory, "sequences: ", int64_t(slots_.size()), " is the limit");
        free_slots_.reserve(slots_.size() + 1);  // so that giving one back never allocates
        slots_.emplace_back();
        return uint32_t(slots_.size() - 1);
    }
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
}

int64_t Cache::fill_slot(uint32_t slot, std::unique_ptr<Sequence> sequence) {
    slots_[slot].sequence = std::move(sequence);
    live_sequences_++;
    return id_of(slot);
}

Result<std::unique_ptr<Sequence>> Cache::make_sequence(int64_t first_position, int64_t prompt_length) const {
    if (first_position < 0 || first_position > position_limit) {
        return fail(Code::argument, "first_position ", first_position, " is out of range (0 .. 2^53)");
    }
    if (prompt_length < 0 || prompt_length > position_limit) {
        return fail(Code::argument, "prompt_length ", prompt_length, " is out of range (0 .. 2^53)");
    }
    auto sequence = std::make_unique<Sequence>();
    sequence->first_position = first_position;
    sequence->prompt_end = prompt_length;
    sequence->layers.resize(layers_.size());
    for (size_t i = 0; i < layers_.size(); i++)
        sequence->layers[i].heads.resize(size_t(layers_[i].kv_heads));
    sequence->context = context_tokens_ > 0 ? context_tokens_ : prompt_length;
    KVC_TRY(apply_budget(*sequence, 0));
    return sequence;
}

Result<int64_t> Cache::create_sequence(int64_t first_position, int64_t prompt_length) {
    Result<std::unique_ptr<Sequence>> sequence = make_sequence(first_position, prompt_length);
    if (!sequence.ok()) return sequence.status();
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(check_frequencies());
    Result<uint32_t> slot = take_slot();
    if (!slot.ok()) return slot.status();
    return fill_slot(*slot, std::move(*sequence));
}

Status Cache::destroy_sequence(int64_t id) {
    Result<Exclusive> lock = exclusive_for_release();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require_present(id);
    if (!sequence.ok()) return sequence.status();
    release_records(**sequence);
    const uint32_t slot = uint32_t(id & ((int64_t{1} << slot_bits) - 1));
    slots_[slot].sequence.reset();
    live_sequences_--;
    // A slot whose generation would wrap is retired, so that an old id never names a new sequence.
    if (++slots_[slot].generation <= generation_limit) free_slots_.push_back(slot);
    return {};
}

Status Cache::set_prompt_end(int64_t id, int64_t position) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    const int64_t first = (*sequence)->first_position;
    if (position < first || position > position_limit + first) {
        return fail(Code::argument, "prompt end ", position, " is out of range (", first, " .. 2^53)");
    }
    (*sequence)->prompt_end = position - first;
    return {};
}

Result<int64_t> Cache::length(int64_t id) const {
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    return (*sequence)->first_position + (*sequence)->length;
}

}  // namespace kvc

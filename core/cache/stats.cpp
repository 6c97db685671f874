// Stats: counted where the bytes are, at the time of the call.
#include <algorithm>
#include <vector>

#include "core/base/capacity.h"
#include "core/cache/cache.h"
#include "core/cache/planner.h"

namespace kvc {
namespace {

int64_t table_bytes_of(const Sequence& sequence) {
    int64_t bytes = int64_t(sizeof sequence) + capacity_bytes(sequence.layers) + capacity_bytes(sequence.unsettled);
    for (const LayerPages& pages : sequence.layers) {
        bytes += capacity_bytes(pages.heads);
        for (const HeadPages& head : pages.heads) {
            bytes += capacity_bytes(head.coded) + capacity_bytes(head.window) + capacity_bytes(head.mass) +
                     capacity_bytes(head.queries) + capacity_bytes(head.counts);
            for (const QuerySums& sums : head.queries)
                bytes += capacity_bytes(sums.sum) + capacity_bytes(sums.square);
        }
    }
    return bytes;
}

}  // namespace

Result<CacheStats> Cache::stats() const {
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    CacheStats out;
    out.open_steps = open_steps_;
    out.arena_bytes = arena_->total_bytes();
    out.bound_bytes = arena_->bound_bytes();
    out.sequences = live_sequences_;
    out.table_bytes = capacity_bytes(slots_) + capacity_bytes(free_slots_) + arena_->table_bytes();
    out.record_bytes = arena_->bytes_in_use();
    std::vector<bool> seen;  // by number, as numbers are dense: a record with several owners counts once
    const auto seen_before = [&](RecordId id) {
        if (seen.size() <= id) seen.resize(std::max<size_t>(size_t(id) + 1, 2 * seen.size()));
        const bool before = seen[id];
        seen[id] = true;
        return before;
    };
    const auto count = [&](RecordId id, int64_t bytes, int64_t* total) {
        if (id && (!arena_->shared(id) || !seen_before(id))) *total += bytes;
    };
    const auto count_sequence = [&](const Sequence& sequence) {
        out.table_bytes += table_bytes_of(sequence);
        for (size_t i = 0; i < layers_.size(); i++) {
            const LayerPages& pages = sequence.layers[i];
            const PageState& state = pages.state;
            const LayerFormat& format = layers_[i].format;
            for (const HeadPages& head : pages.heads) {
                count(head.sinks, format.sink_bytes, &out.sink_bytes);
                for (int64_t e = 0; e < state.coded_end - state.first_coded; e++) {
                    const PageEntry& entry = head.coded[size_t(e)];
                    if (entry.record) count(entry.record, bytes_of_record(entry.record), &out.code_bytes);
                    count(entry.side, side_bytes, &out.side_bytes);
                }
                for (int64_t page = state.first_window; page < layers_[i].rule.pages(sequence.length); page++) {
                    count(head.window[size_t(page - state.first_window)].record, format.window_bytes, &out.window_bytes);
                }
            }
        }
    };
    for (const SequenceSlot& slot : slots_) {
        if (slot.sequence) count_sequence(*slot.sequence);
    }
    for (const PrefixEntry& entry : prefixes_.entries()) {
        if (entry.sequence) count_sequence(*entry.sequence);
    }
    out.table_bytes += prefix_host_bytes();
    out.scratch_bytes = step_scratch_bytes_ + pool_->scratch_bytes();
    out.tokens_appended = counters_.tokens_appended;
    out.tokens_evicted = counters_.tokens_evicted;
    out.pages_quantized = counters_.pages_quantized;
    out.tokens_requantized = counters_.tokens_requantized;
    out.tokens_merged = counters_.tokens_merged;
    out.slow_calls = counters_.slow_calls;
    out.synchronizations = device_ ? device_->waits() : 0;
    out.bytes_staged = counters_.bytes_staged;
    return out;
}

Result<SequenceStats> Cache::sequence_stats(int64_t id) const {
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> found = require(id);
    if (!found.ok()) return found.status();
    const Sequence& sequence = **found;
    SequenceStats out;
    out.tokens = sequence.length;
    out.table_bytes = table_bytes_of(sequence);
    out.codec_bits = codec_bits(layers_);
    out.fp16_bytes = fp16_bytes(layers_, sequence.length).value();
    const auto count = [&](RecordId id_, int64_t bytes) {
        if (!id_) return;
        out.record_bytes += bytes;
        if (arena_->shared(id_)) out.shared_bytes += bytes;
    };
    for (size_t i = 0; i < layers_.size(); i++) {
        const LayerPages& pages = sequence.layers[i];
        for (const HeadPages& head : pages.heads) {
            if (sequence.length > 0) count(head.sinks, layers_[i].format.sink_bytes);
            for (int64_t e = 0; e < pages.state.coded_end - pages.state.first_coded; e++) {
                const RecordId record = head.coded[size_t(e)].record;
                if (record) count(record, bytes_of_record(record));
                count(head.coded[size_t(e)].side, side_bytes);
            }
            for (int64_t page = pages.state.first_window; page < layers_[i].rule.pages(sequence.length); page++) {
                count(head.window[size_t(page - pages.state.first_window)].record, layers_[i].format.window_bytes);
            }
        }
    }
    return out;
}

}  // namespace kvc

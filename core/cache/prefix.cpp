// The prefix index: entries are cuts of sequences, a hit is a cut of an entry. So all that is true of forks is true of hits.
#include <algorithm>

#include "core/base/size.h"
#include "core/cache/cache.h"
#include "core/store/arena_forecast.h"

namespace kvc {
namespace {

// A sequence that begins there and is held to the same budgets.
bool equally_held(const Sequence& a, const Sequence& b) {
    const auto alike = [](const LayerPages& x, const LayerPages& y) {
        return x.budget == y.budget && x.recent == y.recent && x.state.kept == y.state.kept;
    };
    return a.first_position == b.first_position && std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), alike);
}

}  // namespace

// Gives the entry its sequence and counts its records; if the host has no memory for that, the records are released.
void Cache::adopt_entry(PrefixEntry* entry, std::unique_ptr<Sequence> sequence) {
    int64_t records = 0;
    visit_records(*sequence, [&](RecordId) { records++; });
    try {
        prefix_records_.reserve(prefix_records_.size() + size_t(records));
        visit_records(*sequence, [&](RecordId id) { prefix_records_.try_emplace(id, 0); });
    } catch (...) {
        std::erase_if(prefix_records_, [](const auto& counted) { return counted.second == 0; });
        release_records(*sequence);
        throw;
    }
    visit_records(*sequence, [&](RecordId id) {
        if (prefix_records_[id]++ == 0) prefix_counts_.record_bytes += bytes_of_record(id);
    });
    entry->sequence = std::move(sequence);
}

void Cache::drop_entry(PrefixEntry* entry) {
    if (entry->sequence) {
        visit_records(*entry->sequence, [&](RecordId id) {
            const auto counted = prefix_records_.find(id);
            if (--counted->second > 0) return;
            prefix_counts_.record_bytes -= bytes_of_record(id);
            prefix_records_.erase(counted);
        });
        release_records(*entry->sequence);
    }
    prefixes_.erase(entry);
}

bool Cache::make_room(std::span<const int64_t> needs, const PrefixEntry* keep) {
    if (needs.empty() || !drop_entries(ArenaForecast(*arena_, open_steps_ == 0), needs, keep)) return false;
    compact();
    return true;
}

bool Cache::drop_entries(ArenaForecast forecast, std::span<const int64_t> needs, const PrefixEntry* keep) {
    std::vector<PrefixEntry*> dropped;
    for (PrefixEntry& entry : prefixes_.entries()) {
        if (entry.pinned || !entry.sequence || &entry == keep) continue;
        visit_records(*entry.sequence, [&](RecordId id) { forecast.release(id); });
        dropped.push_back(&entry);
        if (!forecast.fits(needs)) continue;
        for (PrefixEntry* victim : dropped)
            drop_entry(victim);
        prefix_counts_.evictions += int64_t(dropped.size());
        return true;
    }
    return false;
}

// What the pinned entries, but the one that goes, hold together with those records.
int64_t Cache::bytes_with_pinned(std::unordered_set<RecordId> records, const PrefixEntry* replaced) const {
    int64_t bytes = 0;
    for (RecordId id : records)
        bytes += bytes_of_record(id);
    for (const PrefixEntry& entry : prefixes_.entries()) {
        if (!entry.pinned || &entry == replaced) continue;
        visit_records(*entry.sequence, [&](RecordId id) { bytes += records.insert(id).second ? bytes_of_record(id) : 0; });
    }
    return bytes;
}

// What an entry of a sequence cut there would hold together with the pinned ones: known before anything is dropped for it.
int64_t Cache::bytes_with_entry(const Sequence& source, int64_t length, bool sealed, const PrefixEntry* replaced) const {
    Size bytes = bytes_with_pinned(shared_by_cut(source, length, sealed), replaced);
    const std::vector<int64_t> needs = sealed ? sealed_cut_needs(source, length) : cut_needs(source, length, false);
    for (size_t c = 0; c < needs.size(); c++)
        bytes = bytes + Size(needs[c]) * arena_->record_bytes(int(c));
    return bytes.value();
}

// Holds the index to its budget, which the pinned entries and the newest one fit, after that came and another one may go for it.
void Cache::drop_to_budget(const PrefixEntry* newest) {
    for (auto at = prefixes_.entries().begin(); at != prefixes_.entries().end();) {
        if (prefix_budget_ == 0 || prefix_counts_.record_bytes <= prefix_budget_) return;
        PrefixEntry* const entry = &*at++;
        if (entry == newest || entry->pinned) continue;
        drop_entry(entry);
        prefix_counts_.evictions++;
    }
}

Status Cache::publish_prefix(int64_t id, const PrefixKey& key, const PublishOptions& options) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(settle());
    Result<Sequence*> source = require_idle(id);
    if (!source.ok()) return source.status();
    const int64_t n = int64_t(key.tokens.size()), floor = floor_of(**source), first = (*source)->first_position;
    if (n > (*source)->length) {
        return fail(Code::range, "prefix_publish: ", n, " tokens of sequence ", id, ", which has ", (*source)->length);
    }
    if (n < floor) {
        return fail(Code::range, "prefix_publish: ", n, " tokens of sequence ", id, ", whose exact floor is ", floor, " tokens");
    }
    if (options.sealed) KVC_TRY(check_seal(n));
    PrefixEntry* const same =
        prefixes_.find_same(key, [&](const PrefixEntry& entry) { return equally_held(*entry.sequence, **source); });
    const int64_t entry_floor = options.sealed ? n : floor;
    if (same && same->sealed == options.sealed && same->floor <= entry_floor) {  // what is there serves as many prompts
        prefixes_.touch(same);
        same->pinned |= options.pinned;
        return {};
    }
    if (prefix_budget_ > 0 && bytes_with_entry(**source, n, options.sealed, same) > prefix_budget_) {
        return fail(Code::no_memory, "prefix_publish: ", n, " tokens of sequence ", id, " and what is pinned are beyond the budget of ",
                    prefix_budget_, " bytes");
    }
    PrefixEntry* const made = prefixes_.insert(key, entry_floor, options.pinned || (same && same->pinned));
    made->sealed = options.sealed;
    int64_t coded = 0;
    try {
        std::unique_ptr<Sequence> copy =
            options.sealed ? cut_sealed(**source, n, same, &coded) : cut_making_room(**source, n, false, same);
        if (!copy) {
            prefixes_.erase(made);
            return fail(Code::no_memory, "prefix_publish: the arena has no room for the ", options.sealed ? "codes" : "partial pages",
                        " of sequence ", id, " at ", first + n);
        }
        adopt_entry(made, std::move(copy));
    } catch (...) {
        drop_entry(made);
        throw;
    }
    counters_.pages_quantized += coded;
    if (same) drop_entry(same);
    drop_to_budget(made);
    return {};
}

Result<PrefixHit> Cache::look_up_prefix(const PrefixKey& prompt, int64_t first_position, int64_t prompt_length) {
    Result<std::unique_ptr<Sequence>> fresh = make_sequence(first_position, prompt_length);
    if (!fresh.ok()) return fresh.status();
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(check_frequencies());
    const PrefixIndex::Match match =
        prefixes_.find(prompt, [&](const PrefixEntry& entry) { return equally_held(*entry.sequence, **fresh); });
    Result<uint32_t> slot = take_slot();
    if (!slot.ok()) return slot.status();
    if (match.entry) {
        std::unique_ptr<Sequence> copy;
        try {
            copy = cut_making_room(*match.entry->sequence, match.tokens, false, match.entry);
        } catch (...) {
            free_slots_.push_back(*slot);
            throw;
        }
        if (!copy) {
            free_slots_.push_back(*slot);
            return fail(Code::no_memory, "prefix_lookup: the arena has no room for the partial pages of ", match.tokens, " tokens");
        }
        copy->prompt_end = (*fresh)->prompt_end;
        copy->context = (*fresh)->context;
        *fresh = std::move(copy);
        prefixes_.touch(match.entry);
    }
    (match.entry ? prefix_counts_.hits : prefix_counts_.misses)++;
    prefix_counts_.hit_tokens += match.tokens;
    return PrefixHit{fill_slot(*slot, std::move(*fresh)), match.tokens, match.shared};
}

Result<int64_t> Cache::remove_prefixes(const PrefixKey& key) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    const std::vector<PrefixEntry*> found = prefixes_.find_below(key);
    for (PrefixEntry* entry : found)
        drop_entry(entry);
    return int64_t(found.size());
}

Status Cache::clear_prefixes() {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    while (!prefixes_.entries().empty())
        drop_entry(&prefixes_.entries().front());
    return {};
}

Status Cache::set_prefix_budget(int64_t bytes) {
    if (bytes < 0) return fail(Code::argument, "prefix_budget_set: ", bytes, " bytes");
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    if (bytes > 0 && bytes_with_pinned({}, nullptr) > bytes)
        return fail(Code::no_memory, "prefix_budget_set: the pinned entries hold more than ", bytes, " bytes");
    prefix_budget_ = bytes;
    drop_to_budget(nullptr);
    return {};
}

// Heap of the index, without that of the entries' page tables.
int64_t Cache::prefix_host_bytes() const {
    constexpr int64_t record_cost = int64_t(sizeof(void*) + sizeof(std::pair<RecordId, int64_t>));
    const Size records = Size(int64_t(prefix_records_.size())) * record_cost;
    const Size buckets = Size(int64_t(prefix_records_.bucket_count())) * int64_t(sizeof(void*));
    return prefixes_.host_bytes() + (records + buckets).value();
}

Result<PrefixStats> Cache::prefix_stats() const {
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    PrefixStats out = prefix_counts_;
    out.entries = int64_t(prefixes_.entries().size());
    out.tokens = prefixes_.tokens();
    out.budget_bytes = prefix_budget_;
    out.host_bytes = prefix_host_bytes();
    return out;
}

}  // namespace kvc

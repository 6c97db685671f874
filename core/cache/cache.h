// A cache: the arena, its sequences, and the steps that are open on them.
//
// Locking: `state_` is held exclusively by whatever changes the arena or a published table (begin, commit, abort, fork, truncate,
// evict, create, destroy) and shared by readers. Append and attend do not take it: a step alone may touch the slots, tables and
// records that begin reserved for it, and its sequences answer `busy` to everybody else until it ends.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <unordered_set>
#include <vector>

#include "core/attend/thread_pool.h"
#include "core/cache/budget.h"
#include "core/store/arena.h"
#include "core/store/prefix_index.h"
#include "core/store/sequence.h"

namespace kvc {

class ArenaForecast;
class Graph;
class Step;
class StepDown;
struct GraphRequest;
struct StepOptions;
struct SnapshotDraft;

// Asked once for memory of so many bytes; it may answer nullptr, if only the number was wanted.
using SnapshotPlace = std::function<Result<std::byte*>(int64_t bytes)>;

enum class Part { keys, values };

struct EvictRequest {
    int64_t layer_begin = 0, layer_end = 0;  // 0, 0: all
    int64_t head_begin = 0, head_end = 0;
    int64_t budget = 0;  // tokens kept per layer and head; 0: no bound (keep lists)
    int64_t recent = 0;
    const float* scores = nullptr;  // [layers][heads][length], or none
    int64_t n_scores = 0;
    std::span<const int64_t> keep;  // ascending positions
    bool by_keep = false;
    bool by_policy = false;  // scores, budgets and recent tokens as the cache's policy says; budget and recent above replace them
    // The caller's clusters, [layers][heads][length]: the index of the token that each joins, its own if it stays, -1 if it is dropped.
    std::span<const int32_t> into;
    bool by_clusters = false;
    MergeRule merge;  // how, by_clusters
};

struct EvictReport {
    int64_t tokens_evicted = 0, records_freed = 0, bytes_freed = 0, tokens_repacked = 0, tokens_merged = 0;
};

struct StepDownRequest {
    int64_t rung = 0;                        // 0: the lowest
    int64_t layer_begin = 0, layer_end = 0;  // 0, 0: all
    int64_t budget_bytes = 0;                // of the sequence's records; 0: all pages go down to the rung
    int64_t recent = 0;                      // pages with one of the newest tokens stay
};

struct StepDownReport {
    int64_t pages = 0, tokens_requantized = 0, bytes_freed = 0, record_bytes = 0;
};

struct CacheStats {
    int64_t open_steps = 0, arena_bytes = 0, bound_bytes = 0;
    int64_t record_bytes = 0, sink_bytes = 0, window_bytes = 0, code_bytes = 0, side_bytes = 0;
    int64_t table_bytes = 0, scratch_bytes = 0, sequences = 0;
    int64_t tokens_appended = 0, tokens_evicted = 0, pages_quantized = 0, tokens_requantized = 0, slow_calls = 0, tokens_merged = 0;
    int64_t synchronizations = 0, bytes_staged = 0;
};

struct SequenceStats {
    int64_t tokens = 0, record_bytes = 0, shared_bytes = 0, table_bytes = 0, fp16_bytes = 0, elements = 0;
    double codec_bits = 0;
};

struct PublishOptions {
    bool pinned = false;
    bool sealed = false;  // the entry holds codes alone
};

struct PrefixHit {
    int64_t sequence = 0;  // the new sequence's id
    int64_t tokens = 0;    // that it holds; 0: a miss
    int64_t shared = 0;    // that the prompt shares with some entry
};

struct PrefixStats {
    int64_t entries = 0, tokens = 0, record_bytes = 0, host_bytes = 0, budget_bytes = 0;
    int64_t hits = 0, misses = 0, hit_tokens = 0, evictions = 0;
};

class Cache {
public:
    static Result<std::shared_ptr<Cache>> create(const CacheConfig& config);
    ~Cache();

    const std::vector<Layer>& layers() const { return layers_; }
    Status set_sink_logits(int64_t layer, std::span<const float> logits);
    Status set_rope_frequencies(int64_t layer, std::span<const double> frequencies);

    // Sequences, by id.
    Result<int64_t> create_sequence(int64_t first_position, int64_t prompt_length);
    Status destroy_sequence(int64_t id);
    Result<int64_t> fork(int64_t id, int64_t position, bool allow_inexact);
    Status truncate(int64_t id, int64_t position, bool allow_inexact);
    Status set_prompt_end(int64_t id, int64_t position);
    Result<int64_t> length(int64_t id) const;
    Result<int64_t> exact_floor(int64_t id) const;
    Result<int64_t> live(int64_t id, int64_t layer, int64_t head) const;
    Result<std::vector<int64_t>> positions(int64_t id, int64_t layer, int64_t head) const;

    Result<std::unique_ptr<Step>> begin(std::span<const int64_t> ids, std::span<const int64_t> counts,
                                        std::span<const int64_t> positions, const StepOptions& options);

    // Steps as graphs of the device (graph.cpp). The cache outlives them.
    Result<std::unique_ptr<Graph>> create_graph(GraphRequest request);
    // Before it is destroyed: from now on no step can name it. Code::busy if one does.
    Status retire_graph(Graph& graph);

    Result<EvictReport> evict(int64_t id, const EvictRequest& request);
    // Folds tokens into others as the caller's clusters say.
    Result<EvictReport> merge(int64_t id, const EvictRequest& request);
    // Coded pages take lower rungs of their ladders (step_down.cpp).
    Result<StepDownReport> step_down(int64_t id, const StepDownRequest& request);
    // The rung of each live token's page; -1: 16 bits, not coded yet.
    Result<std::vector<int64_t>> read_rungs(int64_t id, int64_t layer, int64_t head) const;
    // Replaces the policy's amount for one sequence, from now on; 0: the policy's own.
    Status set_budget(int64_t id, int64_t amount);
    // Tokens that one step may add to the sequence.
    Result<int64_t> step_limit(int64_t id) const;

    // The prefix index (prefix.cpp).
    Status publish_prefix(int64_t id, const PrefixKey& key, const PublishOptions& options);
    Result<PrefixHit> look_up_prefix(const PrefixKey& prompt, int64_t first_position, int64_t prompt_length);
    // Removes the entries whose tokens begin with the key's; returns their number.
    Result<int64_t> remove_prefixes(const PrefixKey& key);
    Status clear_prefixes();
    // The most record bytes that entries may hold; 0: no bound but the arena.
    Status set_prefix_budget(int64_t bytes);
    Result<PrefixStats> prefix_stats() const;

    // out [n][dim] of live tokens first .. first + n, in the basis of append.
    Status read(int64_t id, int64_t layer, int64_t head, Part part, int64_t first, std::span<float> out) const;
    // Codes of coded pages [tokens][dim]; out may be empty to ask for the number of tokens.
    Result<int64_t> read_codes(int64_t id, int64_t layer, int64_t head, Part part, std::span<uint8_t> out) const;
    Result<std::vector<int64_t>> read_mass(int64_t id, int64_t layer, int64_t head) const;
    // Tokens that each live token stands for.
    Result<std::vector<int64_t>> read_counts(int64_t id, int64_t layer, int64_t head) const;

    // Writes sequences, or all of them in the order of their ids, as a snapshot; returns its bytes.
    Result<int64_t> export_snapshot(std::span<const int64_t> ids, bool all, const SnapshotPlace& place) const;
    // The sequences of a snapshot, checked, for import into this cache. `bytes` must outlive the draft.
    Result<SnapshotDraft> read_snapshot(std::span<const std::byte> bytes) const;
    // New sequences from it, in its order; all of them or none.
    Result<std::vector<int64_t>> import_snapshot(SnapshotDraft draft);

    // Memory of the device, or of the host for it, that callers use; ends with the cache.
    Result<void*> create_buffer(bool pinned, int64_t bytes);
    Status destroy_buffer(bool pinned, void* buffer);
    Status copy_buffer(void* to, bool to_device, const void* from, bool from_device, int64_t bytes);
    // Waits for the device; what it found wrong shows from now on.
    Status synchronize();

    Result<CacheStats> stats() const;
    Result<SequenceStats> sequence_stats(int64_t id) const;

private:
    friend class Step;
    friend class Evictor;
    friend class StepDown;
    friend class SnapshotWriter;

    struct SequenceSlot {
        std::unique_ptr<Sequence> sequence;
        uint32_t generation = 1;
    };
    // The arena's size classes of one layer's records.
    struct LayerClasses {
        int sinks = -1, window = -1, codes = -1;
    };
    struct Counters {
        std::atomic<int64_t> tokens_appended{0}, tokens_evicted{0}, pages_quantized{0}, tokens_requantized{0}, slow_calls{0};
        std::atomic<int64_t> tokens_merged{0}, bytes_staged{0};
    };
    using Exclusive = std::unique_lock<std::shared_mutex>;
    using Shared = std::shared_lock<std::shared_mutex>;

    Cache() = default;
    // The lock; in a forked child `forked` instead of waiting for a thread that does not exist there.
    Result<Exclusive> exclusive() const;
    // The same once the device has failed, when all others answer that: for calls that only give back.
    Result<Exclusive> exclusive_for_release() const;
    Result<Shared> shared() const;

    Result<std::unique_ptr<Step>> open_step(std::span<const int64_t> ids, std::span<const int64_t> counts,
                                            std::span<const int64_t> positions, const StepOptions& options,
                                            std::vector<int64_t>* needs);
    Status check_guard(int64_t id, const Sequence& sequence, const int64_t* position) const;
    Status check_graph_kind() const;
    Status check_graph_step(std::span<const int64_t> ids, std::span<const int64_t> counts, const StepOptions& options,
                            bool* captures) const;
    Status check_replay(std::span<const int64_t> ids, std::span<const int64_t> counts, const StepOptions& options) const;
    Result<std::unique_ptr<Step>> open_recording(std::span<const int64_t> ids, std::span<const int64_t> counts,
                                                 std::span<const int64_t> positions, const StepOptions& options);
    int64_t id_of(uint32_t slot) const;
    Sequence* find(int64_t id) const;
    Result<Sequence*> require(int64_t id) const;          // handle error if there is none
    Result<Sequence*> require_idle(int64_t id) const;     // busy error if it is in a step
    Result<Sequence*> require_present(int64_t id) const;  // likewise, but it may hold a bad token

    // What a device has yet to say (settle.cpp). Under the exclusive lock: waits for the device if there are stores that it may still
    // find fault with.
    Status settle() const;
    Status synchronize_device() const;
    // A shared lock under which nothing waits to be settled.
    Result<Shared> shared_and_settled() const;
    // Settles what is known of a sequence's newest tokens.
    void settle_sequence(Sequence& sequence) const;
    void release_buffer(void* buffer, bool pinned);
    Status bad_token(int64_t id, const Sequence& sequence) const;
    Status check_layer_head(int64_t layer, int64_t head) const;
    // An empty sequence that is in no table yet.
    Result<std::unique_ptr<Sequence>> make_sequence(int64_t first_position, int64_t prompt_length) const;
    // Whether every layer that turns has frequencies by now: before there are sequences.
    Status check_frequencies() const;
    // A place in the sequence table; giving it back or filling it never fails.
    Result<uint32_t> take_slot();
    int64_t fill_slot(uint32_t slot, std::unique_ptr<Sequence> sequence);

    // Frees slabs by moving records together and renames them in every table; false if that frees none. Under the exclusive lock, and
    // not while a step is open: steps use records without it (compact.cpp).
    bool compact();
    // The same where the host's memory is had already: nothing fails.
    void compact_in(CompactionRoom* room);

    // The policy, under the exclusive lock (automatic.cpp).
    Status apply_budget(Sequence& sequence, int64_t amount) const;
    void drop_pages_below(int64_t first, Sequence& sequence, size_t layer);
    int64_t step_limit_of(const Sequence& sequence) const;
    Result<EvictReport> run_eviction(Sequence& sequence, const EvictRequest& request);
    Status settle_sound(int64_t id, const Sequence& sequence) const;
    Status settle_overdue(int64_t id, Sequence& sequence);
    Result<StepDownReport> run_step_down(Sequence& sequence, const std::function<Status(StepDown&)>& plan);
    // At a boundary: pages that have grown old take their rung. Does nothing where it has been done.
    Status settle_ages(int64_t id, Sequence& sequence);
    int64_t record_bytes(const Sequence& sequence) const;
    // After a commit; what cannot be done now is done, or refused, by the next begin.
    void act_after_commit(int64_t id, Sequence& sequence);

    // Cuts, under the exclusive lock (cut.cpp).
    int64_t floor_of(const Sequence& sequence) const;
    Status check_cut(const char* what, const Sequence& sequence, int64_t length, bool allow_inexact) const;
    // A sequence with the tokens of `source` below `length`; `take` = source is about to be released, so that its private records
    // are handed over instead of copied. nullptr: the arena is full.
    std::unique_ptr<Sequence> cut(const Sequence& source, int64_t length, bool take);
    bool is_window_page(size_t layer, const PageEntry& entry) const;
    int64_t first_renamed(size_t layer, const Sequence& source, int64_t first, int64_t end) const;
    PageState cut_state(size_t layer, const Sequence& source, int64_t length) const;
    // Records that cut() takes from the arena, by size class.
    std::vector<int64_t> cut_needs(const Sequence& source, int64_t length, bool take) const;
    // Records that cut() leaves to both, or a sealed cut; with those of cut_needs() or sealed_cut_needs() they are all that it holds.
    std::unordered_set<RecordId> shared_by_cut(const Sequence& source, int64_t length, bool sealed) const;
    static const PageEntry* find_page(const LayerPages& pages, const HeadPages& head, int64_t page);
    // What attempt() makes, or nullptr: where the arena is full once more after compaction, then at the cost of entries for needs().
    template <class Attempt, class Needs>
    std::unique_ptr<Sequence> making_room(const Attempt& attempt, const Needs& needs, const PrefixEntry* keep) {
        std::unique_ptr<Sequence> made = attempt();
        if (!made && compact()) made = attempt();
        if (!made && make_room(needs(), keep)) made = attempt();
        return made;
    }
    // cut(), after compaction and at the cost of prefix entries (but `keep`) where the arena is full.
    std::unique_ptr<Sequence> cut_making_room(const Sequence& source, int64_t length, bool take, const PrefixEntry* keep);
    // The same, sealed (seal.cpp).
    std::unique_ptr<Sequence> cut_sealed(const Sequence& source, int64_t length, const PrefixEntry* keep, int64_t* coded);
    // Gives up the 16-bit window of a sequence that no table holds yet, whose length check_seal took (seal.cpp); false: the arena is full.
    // `coded`: pages that were coded for it, which count once the call that asked cannot fail any more.
    bool seal(Sequence& sequence, int64_t* coded);
    Status check_seal(int64_t length) const;
    // Records that cut_sealed() takes from the arena, by size class.
    std::vector<int64_t> sealed_cut_needs(const Sequence& source, int64_t length) const;
    bool code_window(size_t layer, const PageState& state, HeadPages& head);
    int64_t quantize_window(size_t layer, const PageState& state, const HeadPages& head);
    bool cut_head(size_t layer, const Sequence& source, size_t head, int64_t length, bool take, LayerPages& out);
    bool is_16_bit_page(size_t layer, const PageEntry& entry, bool coded) const;
    bool cut_page(size_t layer, const Sequence& sequence, const PageEntry& source, bool coded, int64_t page, int64_t length, bool take,
                  PageEntry* out);
    RecordId own(RecordId source, int size_class, bool take);
    void release_records(Sequence& sequence);
    void release_entry(const PageEntry& entry);

    // Snapshots (snapshot_export.cpp, snapshot_import.cpp).
    Result<std::vector<Sequence*>> sequences_to_export(std::span<const int64_t> ids, bool all) const;
    Status place_drafts(SnapshotDraft& draft);
    std::vector<int> draft_classes(const SnapshotDraft& draft) const;
    bool allocate_drafts(std::span<const int> size_classes, std::vector<RecordId>* records);
    void give_back(std::vector<RecordId>* records);
    void fill_drafts(SnapshotDraft& draft, std::span<const RecordId> records);

    // Entries of the prefix index, under the exclusive lock (prefix.cpp).
    template <class Visit>
    static void visit_records(const Sequence& sequence, const Visit& visit) {
        for (const LayerPages& pages : sequence.layers) {
            for (const HeadPages& head : pages.heads) {
                if (head.sinks) visit(head.sinks);
                for (const std::vector<PageEntry>* table : {&head.coded, &head.window}) {
                    for (const PageEntry& entry : *table) {
                        if (entry.record) visit(entry.record);
                        if (entry.side) visit(entry.side);
                    }
                }
            }
        }
    }
    // Drops the least recently used entries, as few as make room for so many records of each size class; false, and none dropped, if
    // all of them would not. Neither `keep` nor pinned entries are dropped.
    bool make_room(std::span<const int64_t> needs, const PrefixEntry* keep);
    // The same where the caller gives up records of its own, which the forecast supposes: what it shares with entries alone is free
    // once both have let go. Nothing is moved, so that the forecast holds.
    bool drop_entries(ArenaForecast forecast, std::span<const int64_t> needs, const PrefixEntry* keep);
    void adopt_entry(PrefixEntry* entry, std::unique_ptr<Sequence> sequence);
    void drop_entry(PrefixEntry* entry);
    int64_t prefix_host_bytes() const;
    int64_t bytes_with_pinned(std::unordered_set<RecordId> records, const PrefixEntry* replaced) const;
    int64_t bytes_with_entry(const Sequence& source, int64_t length, bool sealed, const PrefixEntry* replaced) const;
    void drop_to_budget(const PrefixEntry* newest);
    int64_t bytes_of_record(RecordId id) const { return arena_->record_bytes(arena_->class_of_record(id)); }

    // A kept token and where it lies (read.cpp).
    struct LiveToken {
        int64_t index;
        KernelTable::Form form;
        RecordId record;
        int slot;
        size_t entry;  // of the table of codes or of the window
    };
    // All live tokens of one layer and kv head, by index.
    std::vector<LiveToken> live_tokens(const Sequence& sequence, size_t layer, size_t head) const;
    // Rows [tokens][dim] of those tokens, in the basis of append.
    void read_rows(size_t layer, Part part, std::span<const LiveToken> tokens, float* out) const;
    // The same tokens, as a device finds them.
    struct TokenPlaces {
        std::vector<TokenSource> sources;
        std::vector<uint32_t> places;
        TokenList list() const { return {sources.data(), int64_t(sources.size()), places.data(), int64_t(places.size())}; }
    };
    TokenPlaces places_of(size_t layer, std::span<const LiveToken> tokens) const;
    // Index of the token in a slot of a page that starts at index page_start.
    int64_t token_index(const Sequence& sequence, const PageEntry& entry, int64_t page_start, int64_t slot) const;
    // The rung of a coded page's record, and what its bytes are.
    int64_t rung_of(size_t layer, RecordId record) const {
        const Layer& shape = layers_[layer];
        return shape.lower.empty() ? 0 : shape.rung_of_bytes(arena_->record_bytes(arena_->class_of_record(record)));
    }
    const LayerFormat& format_of(size_t layer, KernelTable::Form form, RecordId record) const {
        return layers_[layer].rung(form == KernelTable::Form::codes ? rung_of(layer, record) : 0);
    }

    std::vector<Layer> layers_;
    std::vector<LayerClasses> classes_;
    std::vector<std::vector<float>> sink_logits_;
    int side_class_ = -1;
    const KernelTable* kernels_ = nullptr;
    bool saturate_ = false;
    RopeConfig rope_;
    PolicySpec policy_;
    bool has_ages_ = false;  // some layer's pages step down by age
    int64_t context_tokens_ = 0;
    std::shared_ptr<Device> device_;  // nullptr: the host's memory and threads
    std::unique_ptr<Arena> arena_;
    std::unique_ptr<ThreadPool, ThreadPool::Release> pool_;
    int64_t thread_scratch_bytes_ = 0;
    int owner_process_ = 0;
    int64_t tag_ = 0;  // in every sequence id: ids of other caches are refused

    mutable std::shared_mutex state_;
    std::vector<SequenceSlot> slots_;
    std::vector<uint32_t> free_slots_;
    int64_t live_sequences_ = 0;
    int64_t open_steps_ = 0;
    std::atomic<int64_t> step_scratch_bytes_{0};
    mutable Counters counters_;

    // Of a device: tags for stores, how many published ones it has not answered for, and its answers that wait for a commit.
    int64_t next_tag_ = 1;
    mutable int64_t unsettled_ = 0;
    mutable std::vector<BadStore> bad_stores_;
    std::vector<std::pair<void*, bool>> buffers_;  // of callers; pinned

    PrefixIndex prefixes_;
    std::unordered_map<RecordId, int64_t> prefix_records_;  // how many ownerships of a record are entries'
    int64_t prefix_budget_ = 0;
    PrefixStats prefix_counts_;  // record_bytes, hits, misses, hit_tokens, evictions
};

}  // namespace kvc

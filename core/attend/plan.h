// The plan of an attend: which query positions are computed together, against which runs of pages.
//
// A tile holds at most 64 positions of one sequence that see every page in the same form and belong to one kernel class, so that
// cutting a stream into steps differently only cuts tiles differently, never a row's arithmetic. Decode tiles are split at fixed
// page numbers: the order in which partial results merge depends on nothing but the pages.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/executor.h"
#include "core/store/sequence.h"

namespace kvc {

constexpr int64_t split_pages = 64;  // 4,096 tokens

// Which queries of a step count towards attention mass: all, or the last `window` of every `period` indices from `from` on.
struct Observation {
    int64_t period = 0, window = 0, from = 0;
    bool fresh = false;   // a new window begins in the step: what was counted before it is forgotten
    int64_t queries = 0;  // of the step that count, at most
    int64_t limit = 0;    // where more than these would count, those before the step count half; 0: they do not

    bool counts(int64_t index) const { return period == 0 || (index >= from && index % period >= period - window); }
    bool fades(int64_t before) const { return !fresh && limit > 0 && before + queries > limit; }
    static int64_t half(int64_t queries) { return queries - queries / 2; }
};

// A sequence's part of a step.
struct StepSequence {
    int64_t id = 0;
    Sequence* sequence = nullptr;
    int64_t count = 0;        // new tokens
    int64_t first_row = 0;    // row of the first one in the step's buffers
    Observation observation;  // for mass
    Observation queried;      // for statistics of queries

    // What was counted before the step counts half from its commit on.
    bool fades() const { return observation.fades(sequence->mass_queries); }
    // What the queries before the step still count.
    int64_t queries_before() const {
        return observation.fresh ? 0 : fades() ? Observation::half(sequence->mass_queries) : sequence->mass_queries;
    }
};

struct QueryTile {
    int64_t b = 0;            // index of the step's sequence
    int64_t first = 0;        // token index of the first position
    int64_t count = 0;        // positions
    int64_t boundary = 0;     // pages below it are seen as codes
    int64_t first_kept = 0;   // pages below it are not seen
    int64_t first_split = 0;  // of splits at fixed page numbers: the first that holds a page which is seen
    bool observed = true;     // its queries count towards mass
    bool prompt_class = false;
    int64_t splits = 1;
    int64_t runs = 0;          // of the items of one kv head, at most
    int64_t state_offset = 0;  // floats, into the round's states
    int64_t sums_offset = 0;   // into the round's page sums
    int64_t first_item = 0;    // of the round's items: head h's splits are items first_item + h * splits and on

    int64_t state_floats(int64_t q_heads, int64_t v_dim) const { return splits * count * q_heads * (v_dim + 2); }
    int64_t page_sums(int64_t q_heads) const { return observed ? runs * count * q_heads : 0; }
};

// What an attend works on; sized by begin, so that attend allocates nothing.
struct AttendScratch {
    std::vector<QueryTile> tiles;
    std::vector<AttendItem> items;
    std::vector<const AttendParams*> params;  // of each item
    std::vector<int64_t> item_entry;          // of the head's coded pages, the first in the item
    std::vector<FinishTile> finish;
    std::vector<MassItem> mass_items;
    std::vector<const AttendParams*> mass_params;
    // Of layers with a ladder: per sequence, kv head and rung the head's coded pages, those of other rungs left out.
    std::vector<PageEntry> rung_tables;
    std::vector<int64_t> rung_offset;  // of each sequence
    std::vector<float> turned_q;       // [tokens][q_heads][k_dim], for in-cache positions
    std::vector<float> states;         // of kernels that run on the host
    std::vector<float> lse;            // [tokens][q_heads], for mass; likewise
    std::vector<PageSum> page_sums;    // of a round's items, for mass by pages; likewise

    int64_t bytes() const;
};

// How the pages of a tile are split beyond their number.
struct SplitRule {
    bool apart = false;  // the sinks are a split of their own, the last
    int64_t rungs = 1;   // each range of pages is split by the form of its coded pages
};

// The tiles of all sequences, in order. `strict` puts every query into the decode class.
void plan_tiles(std::span<const StepSequence> sequences, const PageRule& rule, size_t layer, bool strict, const SplitRule& split,
                std::vector<QueryTile>& out);
// Splits of a tile that sees pages first_page .. pages - 1.
int64_t split_count(int64_t first_page, int64_t pages, bool prompt_class, const SplitRule& split);
// Runs of the splits of a tile together: each has sinks, and each rung the coded pages.
constexpr int64_t run_count(int64_t first_page, int64_t pages, int64_t splits, const SplitRule& split) {
    return splits + split.rungs * (pages - first_page);
}
// An upper bound on the tiles of a sequence's part.
int64_t tiles_bound(const StepSequence& part);

// What one attend call knows of its layer.
struct LayerQuery {
    const PageRule* rule;
    int64_t kv_heads, group;
    int64_t v_dim;
    int64_t sliding_window;  // INT64_MAX: all
    int64_t k_dim;
    const std::byte* q;
    int64_t q_token_bytes, q_head_bytes;
    // In-cache positions. Of keys after RoPE the sinks are an item of their own, whose queries are turned back by the gap (turn_sinks);
    // of keys before RoPE the kernel subtracts it (subtract_gap).
    bool turn_sinks, subtract_gap;
    int64_t rungs;
    const AttendParams* params;         // of each rung
    const AttendParams* turned_params;  // of items whose queries are turned_q
    const float* turned_q;              // where kernels find AttendScratch::turned_q
};

// Where a round's items leave their results. page_sums: nullptr where mass is not counted by pages.
struct RoundBuffers {
    float* states;
    PageSum* page_sums;
};

// The items of one tile, for all kv heads and splits.
void plan_items(const QueryTile& tile, const StepSequence& part, const LayerPages& pages, const LayerQuery& query,
                const RoundBuffers& buffers, AttendScratch& scratch);

}  // namespace kvc

// What a backend offers: a table of functions over plain structs. core calls nothing else of a backend.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/codec/canonical.h"
#include "core/codec/format.h"

namespace kvc {

// Same numbers as kvc_dtype.
enum class Dtype : int32_t { f16 = 0x210, f32 = 0x220, bf16 = 0x410 };

// A record of the arena: slab << 12 | index. 0 is none (slab 0, index 0 is never given out).
using RecordId = uint32_t;
constexpr int record_index_bits = 12;

struct ArenaView {
    std::byte* const* slabs;
    std::byte* at(RecordId id, int64_t record_bytes) const {
        return slabs[id >> record_index_bits] + int64_t(id & ((1u << record_index_bits) - 1)) * record_bytes;
    }
};

// Positions of a page whose tokens do not follow each other, as repacking leaves them; ascending, of live tokens only.
struct PageSide {
    int64_t positions[64];
};
constexpr int64_t side_bytes = sizeof(PageSide);  // its record's size

constexpr uint64_t all_live = ~uint64_t{0};

// One page of a (sequence, layer, kv head). Masks belong to the sequence, so they lie here and never in a shared record.
struct PageEntry {
    RecordId record = 0;       // none: the page was dropped, skip it
    RecordId side = 0;         // none: token t lies at the page's first position + t
    uint64_t live = all_live;  // bit t: token t counts; slots of dead tokens hold finite numbers
};

// A token that others joined (merging): it weighs in attention like the `count` tokens that it stands for.
struct TokenCount {
    int64_t position;
    int32_t count;
    float log_count;  // what is added to its logits: log(count), or 0 where merging was told not to
};

// ---- store: tokens into a 16-bit record ----

// Rotates where the codec says so, rounds to 16 bits and writes `tokens` tokens of one kv head from slot first_slot on.
struct StoreParams {
    const LayerFormat* format;
    const void* k;  // [tokens][k_dim], token stride k_stride elements
    const void* v;
    Dtype dtype;
    int64_t k_stride, v_stride;
    int64_t tokens;
    std::byte* record;  // window record (capacity 64), or the sink record (capacity codec.sinks)
    bool sinks;
    int64_t first_slot;
    bool saturate;  // clamp instead of refusing what is beyond the 16-bit type

    // Of the caller's, for a backend that finds bad tokens late: whose tokens these are, and the first one's number among them.
    int64_t tag = 0, first_token = 0;
};

// ---- quantize: a full 16-bit record into a code record ----

struct QuantizeParams {
    const LayerFormat* format;
    const std::byte* window;
    std::byte* codes;
};

// ---- rotary positions (RoFormer, arXiv 2104.09864) ----

// Channels 2 i and 2 i + 1 (interleaved), or i and i + dims / 2, turn by position * frequencies[i] radians; channels from dims on stay.
struct Rope {
    const double* frequencies;  // [dims / 2]
    int dims;
    bool interleaved;
};

// ---- attend: one item = query rows of one (sequence, kv head) against a run of pages ----

struct AttendParams {
    const LayerFormat* format;
    ArenaView arena;
    Dtype q_dtype;
    int64_t q_token_stride, q_head_stride;  // elements
    int64_t group;                          // query heads per kv head
    float scale, soft_cap;                  // soft_cap 0: none
    int64_t sliding_window;                 // tokens that a query sees, itself included; INT64_MAX: all
    int64_t causal_offset;                  // <= 0
    // Keys are stored before RoPE and q comes before RoPE: kernels turn both by their positions. nullptr: both come turned.
    const Rope* rope = nullptr;
};

// The sum of exp(logit - reference) of the tokens of one run that a row sees; the reference is any number that keeps it finite.
struct PageSum {
    float reference, sum;
};

// The result of rows [tokens][group]: o [v_dim] unnormalized, m the running maximum of the logits, d the sum of exp(logit - m).
// A row that saw nothing has m = -inf, d = 0, o = 0. Row (t, g) lies at state + (t * state_token_stride + g) * (v_dim + 2): o, m, d.
struct AttendItem {
    const void* q;           // row of the item's first token and first query head of the group
    int64_t tokens;          // positions in the tile, 1 .. 64; the visible forms are the same for all of them
    int64_t first_position;  // of the first token; the others follow
    bool prompt_class;       // which kernel class computes it (laws: bits depend on the class, not on the tile)

    RecordId sinks;       // none: no sinks in this item
    int64_t sink_tokens;  // how many it holds, the first at position sinks_position
    int64_t sinks_position;
    const PageEntry* coded;  // code records, ascending; entry e starts at coded_position + 64 e unless it has a side record
    int64_t n_coded;
    int64_t coded_position;
    const PageEntry* window;  // 16-bit records, likewise; slots above a row's own position hold anything, NaN included
    int64_t n_window;
    int64_t window_position;

    float* state;
    int64_t state_token_stride;  // in rows

    // With AttendParams::rope: all but the sinks, queries included, turn by their position less this (in-cache positions).
    int64_t rope_gap;

    const TokenCount* counts;  // ascending by position; tokens that are not among them stand for themselves
    int64_t n_counts;

    // nullptr, or where attend leaves what each row's softmax weighed of each run: [runs()][tokens][group]. Comes as zeros, and stays
    // so where a row sees nothing of a run. States are the same bits with and without.
    PageSum* page_sums;

    // The sinks, whether there are any or not, then the coded pages, then the window pages.
    int64_t runs() const { return 1 + n_coded + n_window; }
};

// ---- finish: merge the splits of rows, undo the rotation, write ----

struct FinishParams {
    const LayerFormat* format;
    const float* states;           // [splits][rows of split_stride apart], as AttendItem wrote them
    int64_t splits, split_stride;  // split_stride in floats
    const float* sink_logit;       // of this query head, or nullptr
    Dtype out_dtype;
    void* out;            // v_dim numbers
    float* out_lse;       // or nullptr: natural log-sum-exp of all that out was divided by, the sink logit included
    float* out_full_lse;  // or nullptr: the same number once more, for mass
};

// ---- mass: attention probabilities summed per token ----

// Adds round(p * 2^30) of every row of the item to its token's counter, p from the same logits as attend, lse [tokens][group].
struct MassItem {
    AttendItem item;   // state unused
    const float* lse;  // row (t, g) at lse[t * lse_token_stride + g]
    int64_t lse_token_stride;
    // Of tokens: [sink_tokens], [n_coded][64], [n_window][64]. Of page_mass, which counts by runs: one, [n_coded], [n_window].
    int64_t *sinks, *coded, *window;
    // Which (sequence, kv head) the counters are of. Items of one follow each other and no two of them are to run at once; from 0 on,
    // ascending, without gaps.
    int64_t counters = 0;
};

struct KernelTable {
    const char* name;
    // Bytes of scratch that attend and mass need per thread for this format, group and tile of `tokens`.
    int64_t (*scratch_bytes)(const LayerFormat& format, int64_t group, int64_t tokens);
    // -1, or the index of the first token that holds a number which cannot be stored (nothing is then promised of the slots).
    int64_t (*store)(const StoreParams& params);
    void (*quantize)(const QuantizeParams& params);
    // 64 tokens (sinks: codec.sinks) to f32 in the stored basis, [tokens][dim]; k or v may be nullptr.
    enum class Form : int32_t { sinks, window, codes };
    void (*read)(const LayerFormat& format, Form form, const std::byte* record, float* k, float* v);
    // Code record <-> canonical form. Parts in 16 bits are left alone.
    void (*unpack)(const LayerFormat& format, const std::byte* record, CanonicalPart* k, CanonicalPart* v);
    void (*pack)(const LayerFormat& format, const CanonicalPart& k, const CanonicalPart& v, std::byte* record);
    void (*attend)(const AttendParams& params, const AttendItem& item, std::byte* scratch);
    void (*mass)(const AttendParams& params, const MassItem& item, std::byte* scratch);
    // By runs, without their keys: adds round(min(1, sum * exp(reference - lse)) * 2^30) of every row to the run's counter. Of the item
    // it looks at tokens, page_sums and the numbers of runs.
    void (*page_mass)(int64_t group, const MassItem& item);
    void (*finish)(const FinishParams& params);
    bool rotates_keys = false;   // attend and mass honour AttendParams::rope
    bool weighs_counts = false;  // attend and mass honour AttendItem::counts
    bool sums_mass = true;       // there are kernels for mass of tokens and pages, in the table or on the device
    // nullptr, or why the table has no kernels for a format; a table without the function takes every format. mass and page_mass
    // may be nullptr where sums_mass is false.
    const char* (*unsupported)(const LayerFormat& format) = nullptr;
};

// Tables that this machine can run, best first; defined by the kernels that are linked in.
int kernel_table_count();
const KernelTable* kernel_table(int index);

}  // namespace kvc

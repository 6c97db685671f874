// The reference model: what a cache must hold and answer, as plain rows of numbers. It shares no code with the library, allocates
// as it likes, and knows nothing of records, slabs or kernels. semantics: docs/ARCHITECTURE.md, "The laws".
#pragma once

#include <cstdint>
#include <functional>
#include <kvc.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/reference/attention.h"
#include "tests/reference/quantizers.h"

namespace kvc_reference {

struct LayerShape {
    int64_t kv_heads = 1, q_heads = 1, k_dim = 16, v_dim = 16;
    int64_t sliding_window = 0;  // 0: all tokens
    CodecSpec codec;
    std::vector<double> frequencies;  // of RoPE inside the cache; empty: nothing turns
};

struct RopeRules {
    bool keys_before = false;  // keys and queries come unturned
    bool in_cache = false;     // positions close the gap behind the sinks
    bool interleaved = false;
};

struct Row {
    std::vector<float> k16, v16;  // rounded to 16 bits, in the stored basis
    std::shared_ptr<const CodedPage> k_page, v_page;
    size_t k_slot = 0, v_slot = 0;  // in the pages
    bool live = true;
    int64_t mass = 0, pending_mass = 0;  // units of 2^-30; pending until commit
    double mass_bound = 0, pending_bound = 0;
};

// One layer of a sequence. See "Truncate, fork" of the laws for h and for what an inexact cut leaves behind.
struct LayerState {
    std::vector<std::vector<Row>> heads;
    int64_t origin = 0;     // pages start here: S
    int64_t base = 0;       // never below this in 16 bits (but sinks): S, or what an inexact cut had lost
    int64_t h = 0;          // 16-bit rows are held from here on
    int64_t held_from = 0;  // sliding-window layers forget what no query can see
};

struct SequenceState {
    int64_t first_position = 0, prompt_end = 0;
    int64_t length = 0;       // committed tokens
    int64_t event_floor = 0;  // left by eviction, accumulation and inexact cuts: the exact floor is not below it
    bool busy = false, evicted = false, cut_inexactly = false;
    std::vector<LayerState> layers;
};

struct StepState {
    std::vector<int64_t> sequences, counts;
    bool partial_commit = false, accumulate = false, open = true;
    std::vector<bool> appended, staged, lost_staging;
};

struct AttendRequest {
    double scale = 0, soft_cap = 0;
    bool partial = false;
    int64_t sliding_window = 0, causal_offset = 0;
    bool planes = false;
    double product = 0;  // Query::product
    bool answer = true;  // false: only check, compute nothing
};

struct EvictRequest {
    int64_t layer_begin = 0, layer_end = 0, head_begin = 0, head_end = 0, budget = 0, recent = 0;
};

class ReferenceModel {
public:
    ReferenceModel(std::vector<LayerShape> layers, RopeRules rope, int64_t spare_pages, bool saturate);

    int64_t create(int64_t first_position, int64_t prompt_length);
    kvc_status fork(int64_t id, int64_t length, bool inexact, int64_t* out);
    kvc_status truncate(int64_t id, int64_t length, bool inexact);
    // Gives up the 16-bit rows of coded layers; false, and nothing changed, where the length is not sinks and whole pages.
    bool seal(int64_t id);
    kvc_status destroy(int64_t id);

    kvc_status begin(const std::vector<int64_t>& ids, const std::vector<int64_t>& counts, bool partial, bool accumulate, int64_t* out);
    // k and v as handed over: [tokens, kv_heads, dim], already in the precision of the caller's type.
    kvc_status append(int64_t step, int64_t layer, const std::vector<float>& k, const std::vector<float>& v);
    // One result per token and query head.
    kvc_status attend(int64_t step, int64_t layer, const std::vector<float>& q, const AttendRequest& request,
                      std::vector<Attention>* out);
    kvc_status commit(int64_t step, const std::vector<int64_t>* accepted);
    kvc_status abort(int64_t step);

    // scores null: StreamingLLM; indexed [layer - begin][head - begin][token].
    kvc_status evict(int64_t id, const std::vector<float>* scores, const EvictRequest& request, int64_t* out_evicted);
    kvc_status keep(int64_t id, const std::vector<int64_t>& positions, const EvictRequest& request, int64_t* out_evicted);

    int64_t exact_floor(int64_t id) const;  // a position
    // Indices (position - first_position) of the live tokens.
    std::vector<int64_t> live(int64_t id, int64_t layer, int64_t head) const;
    // What a reader gets for one token, in the basis in which it was appended, and whether it comes from codes.
    std::vector<float> read(int64_t id, int64_t layer, int64_t head, bool keys, int64_t index, bool* out_coded);

    // Codes of all pages, [tokens][dim].
    std::vector<uint8_t> codes(int64_t id, int64_t layer, int64_t head, bool keys);
    // Takes over the keys of the live tokens as read after a repack; says if one moved further than a requantization can move it.
    std::string adopt_keys(int64_t id, int64_t layer, int64_t head, const std::vector<float>& keys);

    const std::vector<LayerShape>& layers() const { return shapes_; }
    SequenceState* find(int64_t id);
    const SequenceState* find(int64_t id) const;
    StepState* find_step(int64_t id);
    int64_t open_steps() const;
    std::vector<std::vector<float>> sink_logits;  // per layer; empty: none

    // f of the laws: the first token after the pages that are coded at length n.
    static int64_t coded_end(const LayerShape& shape, const LayerState& layer, int64_t n);
    bool is_coded(const SequenceState& s, int64_t layer, int64_t index) const;  // at the committed length
    void ensure_coded(int64_t layer, LayerState& state, std::vector<Row>& rows, int64_t index) const;

private:
    kvc_status cut(SequenceState& s, int64_t length, bool inexact);
    int64_t layer_floor(int64_t layer, const SequenceState& s) const;
    void cut_layer(int64_t layer, LayerState& state, int64_t n);
    void trim(SequenceState& s, int64_t length);
    void settle_layer(int64_t layer, LayerState& state, int64_t length) const;
    bool passes_through(int64_t layer, const SequenceState& s, int64_t count) const;
    std::optional<std::vector<float>> stored(const PartCodec& codec, bool bf16, const float* from, int64_t dim, bool saturate) const;
    Attention attend_one(SequenceState& s, int64_t layer, int64_t q_head, int64_t index, const float* q, const AttendRequest& request,
                         bool accumulate);
    int64_t gap_behind_sinks(const SequenceState& s, int64_t layer, const std::vector<Row>& rows) const;
    void turn(SeenToken& token, const SequenceState& s, const LayerShape& shape, int64_t query, int64_t key, int64_t gap) const;
    SeenToken seen_form(const LayerShape& shape, const Row& row, bool coded, int64_t page) const;
    using Chooser = std::function<std::optional<std::vector<bool>>(int64_t layer, int64_t head)>;
    kvc_status decide(SequenceState& s, const EvictRequest& request, int64_t* out_evicted, const Chooser& choose_head);
    std::optional<std::vector<bool>> choose(const SequenceState& s, int64_t layer, int64_t head, const float* scores,
                                            const EvictRequest& request) const;
    bool acts_on_something(const EvictRequest& request) const;
    bool leaves_gap(const SequenceState& s, int64_t layer, int64_t head, const std::vector<bool>& keep) const;
    bool may_leave(const SequenceState& s, int64_t layer, int64_t index) const;
    std::vector<int64_t> live_of(const SequenceState& s, int64_t layer, int64_t head) const;

    std::vector<LayerShape> shapes_;
    RopeRules rope_;
    int64_t spare_pages_;
    bool saturate_;
    std::map<int64_t, SequenceState> sequences_;
    std::map<int64_t, StepState> steps_;
    int64_t next_id_ = 1;
};

}  // namespace kvc_reference

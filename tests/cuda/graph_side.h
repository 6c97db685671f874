// A cache on a CUDA device and what its caller does: steps as they come, or one step captured in a CUDA graph and replayed. Numbers depend on
// sequence, position, layer and head alone, so that two sides which take the same steps must hold and give the same bits.
#pragma once
#include <cstdint>
#include <kvc.h>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace kvc_graphs {

using Bytes = std::vector<uint8_t>;

struct Setup {
    std::string codec = "int4", policy;
    int64_t layers = 2, kv_heads = 2, q_heads = 4, k_dim = 64, sliding_window = 0;
    std::vector<int64_t> counts = {1, 1, 1};  // of each sequence, in a step
    int64_t max_tokens = 300, attends = 0, slots = 0;
    bool keys_before_rope = false, in_cache = false, sink_logits = false, partial_commit = false, strict = false;
    int32_t spare_pages = 0;
    int32_t dtype = KVC_F32;
    int64_t ordinal = 0;
    kvc::MemorySource memory = {};
    void* arena_block = nullptr;  // instead of an arena that grows
    int64_t arena_bytes = 0;
};

class Side {
public:
    explicit Side(const Setup& setup);
    ~Side();
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;

    // A new sequence at place b of the steps (one that is there is let go), with so many tokens; a fork of another one's at its length.
    void add(size_t b, int64_t tokens, int64_t data);
    void fork(size_t b, kvc_seq source, int64_t data);

    // ---- parts of a step of all sequences, each of which must succeed ----
    void upload();         // the numbers of the tokens that come next
    void spoil(size_t b);  // the last of a sequence's keys is none then; all have one token
    kvc_step* begin(bool named);
    void call_layers(kvc_step* step);
    // Once more, with the same queries and outputs; may be refused.
    kvc_status attend_again(kvc_step* step, int64_t layer, kvc_error* error);
    void commit(kvc_step* step, const std::vector<int64_t>& accepted = {});
    Bytes outputs();  // waits

    void step();  // an ordinary one
    void create_graph();
    void capture();  // and instantiates
    void replay(const std::vector<int64_t>& accepted = {});
    void launch();

    kvc_step_options options(bool named) const;
    // What the sequences hold, and the cache's counters (without those of waiting).
    Bytes stored() const;
    std::string stats() const;

    const Setup setup;
    kvc_cache* cache = nullptr;
    std::vector<kvc_seq> seqs;
    kvc_graph* graph = nullptr;
    kvc::cuda::Stream stream = nullptr;
    kvc::cuda::CapturedGraph launches = nullptr;

private:
    struct Buffer {
        void* at;
        int64_t bytes;
    };
    Buffer make(int64_t heads, int64_t dim, int64_t unit);
    int64_t rows() const;
    int64_t unit() const { return setup.dtype == KVC_F32 ? 4 : 2; }
    Bytes numbers(size_t b, int64_t first, int64_t n, int64_t layer, int64_t kind) const;
    int64_t heads_of(int64_t kind) const { return kind == 2 ? setup.q_heads : setup.kv_heads; }

    std::vector<int64_t> data_;              // of each sequence
    std::vector<Buffer> in_[3], out_, lse_;  // [layers]; k, v, q
};

void require(kvc_status status, const kvc_error& error);

// Both sides take the same steps, one by replays; outputs, what is stored and the counters must be the same.
class Pair {
public:
    explicit Pair(const Setup& setup, const std::vector<int64_t>& lengths);
    void step(const std::vector<int64_t>& accepted = {});
    void steps(int64_t n) {
        for (int64_t i = 0; i < n; i++) {
            step();
        }
    }
    void check_stored();

    Side ordinary, graphed;
};

}  // namespace kvc_graphs

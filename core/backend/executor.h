// Who runs the kernels of one step: threads of the host, or a device on its stream.
//
// core says what is to be computed, as plain structs; pointers in them are records' and buffers' addresses where the kernels run.
// Calls of one executor take effect in their order. A device's calls return before they have taken effect.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/backend/kernel_table.h"
#include "core/base/status.h"

namespace kvc {

// A token that cannot be stored: of the first job that holds one, its first. job -1: there is none, or a device has yet to find out.
struct BadToken {
    int64_t job = -1, token = 0;
};

// The jobs of one (sequence, kv head) in an append.
struct AppendGroup {
    int64_t first_store, stores, first_code, codes;
};

// The rows [tokens][q_heads] of one tile whose splits are merged.
struct FinishTile {
    const float* states;  // of row (0, 0): row (t, h) of split s is at (t * q_heads + h) * (v_dim + 2) + s * split_stride
    int64_t tokens;
    int64_t splits, split_stride;  // floats
    int64_t first_row;             // of the step's buffers
};

// What the tiles of one call have in common. Row r, head h of out is at (r * out_token_stride + h * out_head_stride) elements.
struct FinishCall {
    const LayerFormat* format;
    int64_t q_heads;
    const float* sink_logits;  // [q_heads] in host memory, or nullptr
    Dtype out_dtype;
    void* out;
    int64_t out_token_stride, out_head_stride;
    float* out_lse;   // [rows][q_heads], or nullptr
    float* full_lse;  // the same once more, for mass; or nullptr
};

class Executor {
public:
    virtual ~Executor() = default;

    // Begins an append or an attend of a layer: what input and output handed out for the one before is not needed any more.
    virtual void start(size_t layer) = 0;
    // Where kernels find a caller's buffer: itself, or its copy where the step's buffers are the host's and the kernels a device's.
    virtual Result<const void*> input(const void* buffer, int64_t bytes) = 0;
    // Where they write what is to be in the caller's buffer when the call is over (on a device: when its stream has come so far).
    virtual Result<void*> output(void* buffer, int64_t bytes) = 0;
    // Copies what output() handed out back to buffers of the host, if that is where they are, and then waits until they have it.
    virtual Status deliver() = 0;

    // Tries whether all jobs can be stored and leaves no trace. A device that finds out late answers that there is none.
    virtual BadToken rehearse(std::span<const StoreParams> jobs) = 0;
    // Stores, then makes codes. Groups name all jobs once and in order; codes depend on stores of their own group alone. After a bad
    // token codes mean nothing.
    virtual Result<BadToken> append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                                    std::span<const AppendGroup> groups) = 0;

    // Item i has params[i]; all of them have the same rope. Its frequencies and items' PageEntry and TokenCount tables are host memory.
    // page_sums of items may hold anything before; those that items name ascend from item to item.
    virtual Status attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) = 0;
    // Counters of items are host memory; a device adds to them in the next Device::synchronize, or never if the executor is gone by then.
    virtual Status mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) = 0;
    // The same by runs, of items whose page_sums an attend has filled: a pass over these and not over keys. group: of all items.
    virtual Status page_mass(int64_t group, std::span<const MassItem> items) = 0;
    virtual Status finish(const FinishCall& call, std::span<const FinishTile> tiles) = 0;
};

}  // namespace kvc

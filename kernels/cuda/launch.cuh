// From a backend's parameters to kernels: which instantiation, how many blocks. All pointers in arguments are the device's.
#pragma once
#include "core/backend/executor.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

// A launch's worth of items; all share params. rows: the largest tokens * group of an item.
void launch_attend(const AttendParams& params, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream);
// The same for items of the prompt class, which share no launch with others.
void launch_prompt(const AttendParams& params, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream);

// Items of either class with params.rope, whose frequencies are in the device's memory; and of the prompt class in bf16.
void launch_general(const AttendParams& params, const AttendItem* items, int n_items, int64_t rows, simt::Stream stream);

// Rows [rows][dim] of queries, copied and turned by -gap * frequency, in double as on the host.
struct TurnJob {
    const void* q;
    float* out;
    int64_t rows, gap;
};
void launch_turn_queries(const Rope& rope, Dtype dtype, int64_t stride, int dim, int64_t out_stride, const TurnJob* jobs, int n_jobs,
                         int64_t most_rows, simt::Stream stream);

// Adds the mass of items of one class to their counters.
void launch_mass(const AttendParams& params, const MassItem* items, int n_items, int64_t rows, bool prompt_class, simt::Stream stream);

// The same by runs, out of page sums.
struct PageMassJob {
    const PageSum* sums;  // [runs][tokens][group]
    const float* lse;     // as in MassItem
    int64_t lse_token_stride, tokens;
    int64_t runs;
    int64_t* counters;  // [runs], which are written
};
void launch_page_mass(int64_t group, const PageMassJob* jobs, int n_jobs, int64_t most_runs, simt::Stream stream);

// Tokens of one kv head into one record; all jobs of a launch have the same format, dtype, strides and way with large numbers.
struct StoreJob {
    const void* k;  // [tokens] rows
    const void* v;
    std::byte* keys;  // the record's row of the first token
    std::byte* values;
    int64_t tokens, first_token;
    unsigned long long* first_bad;  // takes the least first_token + index of a token that cannot be stored
};
StoreJob store_job(const StoreParams& params, unsigned long long* first_bad);
// common: any of the jobs. most_tokens: of one job.
void launch_store(const StoreParams& common, const StoreJob* jobs, int n_jobs, int64_t most_tokens, simt::Stream stream);

struct QuantizeJob {
    const std::byte* window;
    std::byte* codes;
};
void launch_quantize(const LayerFormat& format, const QuantizeJob* jobs, int n_jobs, simt::Stream stream);

// The pointers in call are the device's, too. most_tokens: of one tile.
void launch_finish(const FinishCall& call, const FinishTile* tiles, int n_tiles, int64_t most_tokens, simt::Stream stream);

}  // namespace kvc::cuda

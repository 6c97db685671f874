// What the benchmarks launch. Every address in the arguments is the device's, formats apart.
#pragma once
#include <vector>

#include "bench/gpu/device.h"
#include "core/backend/executor.h"

namespace kvc_bench {

// nullptr, or why there are no kernels for the format.
const char* no_kernels_for(const kvc::LayerFormat& format);

// One step of one layer: attention of all items, then the rows of output of all tiles.
struct StepCall {
    kvc::AttendParams params;
    const kvc::AttendItem* items = nullptr;
    int n_items = 0;
    int64_t tokens = 1;  // of an item; all items are of the prompt class if there are more
    kvc::FinishCall finish{};
    const kvc::FinishTile* tiles = nullptr;
    int n_tiles = 0;
};
void launch_attend(const StepCall& call);
void launch_finish(const StepCall& call);

// Sums the probabilities of a decode step: items [n], with the log-sum-exps that finish wrote.
void launch_mass(const StepCall& call, const kvc::MassItem* items);

// What attend left of the pages of an item (AttendItem::page_sums), to be counted by pages.
struct PageCount {
    const kvc::PageSum* sums;  // [runs][tokens][group]
    const float* lse;
    int64_t lse_token_stride, tokens, runs;
    int64_t* counters;  // [runs], which are written
};
void launch_page_count(int64_t group, const PageCount* jobs, int n_jobs, int64_t most_runs);

// Jobs that have the format, type, strides and number of tokens of the first in common, as kernels take them.
class StoreJobs {
public:
    StoreJobs(const std::vector<kvc::StoreParams>& stores, unsigned long long* first_bad);
    // Jobs first .. first + n - 1.
    void launch(int64_t first, int64_t n) const;

private:
    kvc::StoreParams common_;
    Memory jobs_;
};

struct PageJob {
    const std::byte* window;
    std::byte* codes;
};
void launch_quantize(const kvc::LayerFormat& format, const PageJob* jobs, int n_jobs);

// Reads all bytes (a multiple of 128 * threads of a block) and writes next to nothing.
void launch_read(const std::byte* bytes, int64_t n, int blocks, uint32_t* out);

// A code record on the host to numbers in the stored basis, [64][dim].
void read_codes(const kvc::LayerFormat& format, const std::byte* record, float* k, float* v);

}  // namespace kvc_bench

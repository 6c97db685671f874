// New pages out of tokens of others (core/backend/recode.h): jobs as they travel to the device, and their launch.
#pragma once
#include "core/backend/recode.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

// One part of a record that tokens come from.
struct PartForm {
    int bits, dim;
    float middle;            // the code of 0, where there is no zero point
    int groups;              // of a token's channels
    int codes, meta, super;  // offsets from the record's start; of 16-bit rows, codes is where the first one begins
};

struct RecodeFrom {
    const std::byte* record;
    const std::byte* side;
    int64_t first_position;
    bool rows, bf16, grouped;
    PartForm k, v;
};
RecodeFrom recode_from(const RecodeSource& source);

struct RecodeJob {
    std::byte* record;
    std::byte* side;
    const RecodeFrom* from;
    uint64_t moved;  // bit t: the values of slot t move as they are
    uint8_t page[page_tokens], slots[page_tokens];
};
RecodeJob recode_job(const RecodeParams& params, const RecodeFrom* from);

// Of one format, round and basis. common: any of the jobs.
void launch_recode(const RecodeParams& common, const RecodeJob* jobs, int n_jobs, simt::Stream stream);

}  // namespace kvc::cuda

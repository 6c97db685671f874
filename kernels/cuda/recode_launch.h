// New pages out of tokens of others (core/backend/recode.h): jobs as they travel to the device, and their launch.
#pragma once
#include "core/backend/recode.h"
#include "kernels/cuda/source_page.h"

namespace kvc::cuda {

struct RecodeJob {
    std::byte* record;
    std::byte* side;
    const SourcePage* from;
    uint64_t moved;   // bit t: the values of slot t move as they are
    uint64_t folded;  // bit t: slot t has new numbers, in folds
    const FoldedRow* folds;
    bool keeps_keys;
    uint8_t page[page_tokens], slots[page_tokens];
};
RecodeJob recode_job(const RecodeParams& params, const SourcePage* from, const FoldedRow* folds);

// Of one format, round and basis. common: any of the jobs.
void launch_recode(const RecodeParams& common, const RecodeJob* jobs, int n_jobs, simt::Stream stream);

}  // namespace kvc::cuda

// A record that tokens are read from, as it travels to the device: whatever its form, kernels find a token's row in it (source_page.cuh).
#pragma once
#include "core/backend/key_statistics.h"
#include "core/backend/recode.h"
#include "kernels/cuda/page_kind.h"
#include "kernels/cuda/simt.cuh"

namespace kvc::cuda {

// One part of the record.
struct PartForm {
    int bits, dim;
    float middle;            // the code of 0, where there is no zero point
    int groups;              // of a token's channels
    int codes, meta, super;  // offsets from the record's start; of 16-bit rows, codes is where the first one begins
};

struct SourcePage {
    const std::byte* record;
    const std::byte* side;
    int64_t first_position;
    bool rows, bf16;
    Metadata meta;
    PartForm k, v;
};
SourcePage source_page(const RecodeSource& source);
// Without positions.
SourcePage source_page(const TokenSource& source);

}  // namespace kvc::cuda

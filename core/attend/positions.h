// In-cache positions: tokens count without the gap that eviction left behind the sinks (StreamingLLM, arXiv 2309.17453).
#pragma once
#include <cstdint>
#include <span>

#include "core/backend/kernel_table.h"
#include "core/store/sequence.h"

namespace kvc {

// Tokens missing between the sinks and the first one that is held and not below page first_kept; everything after it is held (evict
// sees to that).
int64_t gap_behind_sinks(const LayerPages& pages, size_t head, const PageRule& rule, int64_t length, int64_t first_kept);

// Turns n rows of q (dtype, stride elements apart, dim channels) back by `gap` positions into f32 rows, out_stride apart. Keys that were turned
// by their true positions then meet queries as if the gap were not there: the sinks' logits move, nobody is coded again.
void turn_queries(const Rope& rope, int64_t gap, const void* q, Dtype dtype, int64_t stride, int64_t n, int64_t dim, float* out,
                  int64_t out_stride);

}  // namespace kvc

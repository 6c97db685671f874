// Evictions through kvc.h: one sequence of a cache on the device, by recency and by scores.
#pragma once
#include <string>

#include "bench/gpu/decode_cache.h"

namespace kvc_bench {

struct EvictResult {
    const char* by;                          // recent, scores
    int64_t layers = 0;                      // of the cache; times are of a layer
    int64_t tokens = 0;                      // that leave each head: as many as have come since the last time
    double us = 0, us_low = 0, us_high = 0;  // from the call until the device is done; median and extremes
    double host_us = 0;                      // the call alone
    double halving_us = 0;                   // once: half of all tokens leave
    int64_t waits = 0;                       // for the device, of all these calls together
    bool correct = true;                     // as many tokens left, and stayed, as the budget says
};
EvictResult bench_evict(const Shape& shape, const std::string& codec, bool by_scores, int64_t layers, int rounds);

}  // namespace kvc_bench

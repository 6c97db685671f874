// SnapKV: attention of the last queries (the observation window), smoothed over neighbouring tokens so that whole phrases stay.
#include <algorithm>

#include "core/policy/policy.h"

namespace kvc {

void snapkv_score(const TokenFacts& facts, std::span<double> out) {
    const int64_t n = int64_t(out.size()), reach = facts.pooling == Pooling::none ? 0 : facts.pool_width / 2;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0, largest = 0;
        for (int64_t j = std::max<int64_t>(0, i - reach); j <= std::min(n - 1, i + reach); j++) {
            sum += facts.mass[size_t(j)];
            largest = std::max(largest, facts.mass[size_t(j)]);
        }
        out[size_t(i)] = facts.pooling == Pooling::maximum ? largest : sum;
    }
}

}  // namespace kvc

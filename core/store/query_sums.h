// Statistics of queries, for policies that guess what the next ones attend to.
#pragma once
#include <cstdint>
#include <vector>

namespace kvc {

// What attend saw of one query head's last queries; fixed point, so that no sum depends on how a stream is cut.
struct QuerySums {
    static constexpr double unit = 0x1p-16;
    std::vector<int64_t> sum, square;  // [k_dim]
    int64_t count = 0;
};

}  // namespace kvc

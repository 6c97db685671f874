// Read bandwidth of this machine, as a program can get it with plain loads: the ceiling of every attention over a large cache.
#pragma once
#include <cstdint>

#include "bench/workload.h"

namespace bench {

class ReadProbe {
public:
    ReadProbe();
    // Bytes per second with so many threads reading at once, a part of the buffer each: the median of a few passes. The rate of a
    // shared machine drifts, so measure it in the process and the minute of the figure that it is compared with.
    double bytes_per_second(int64_t threads) const;

private:
    HugeBlock block_;
};

}  // namespace bench

#include "bench/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <unistd.h>
#include <vector>

#include "bench/workload.h"

namespace bench {
namespace {

constexpr int passes = 5;
constexpr int64_t probe_bytes_floor = int64_t{256} << 20;

}  // namespace

ReadProbe::ReadProbe() : block_(std::max(probe_bytes_floor, 8 * last_level_cache_bytes())) {}

double ReadProbe::bytes_per_second(int64_t threads) const {
    const int64_t part = block_.bytes() / threads / 4096 * 4096;
    std::vector<double> rates;
    for (int pass = 0; pass < passes; pass++) {
        std::atomic<int64_t> waiting{threads};
        std::atomic<uint64_t> sum{0};
        std::vector<double> start(static_cast<size_t>(threads)), end(static_cast<size_t>(threads));
        const auto read = [&](int64_t t) {
            // All start together: the time of a thread that reads alone would flatter the machine.
            waiting--;
            while (waiting > 0)
                std::this_thread::yield();
            start[size_t(t)] = seconds_now();
            sum += read_lines(block_.data() + t * part, part);
            end[size_t(t)] = seconds_now();
        };
        std::vector<std::thread> others;
        for (int64_t t = 1; t < threads; t++)
            others.emplace_back(read, t);
        read(0);
        for (std::thread& other : others)
            other.join();
        if (sum == 0) std::abort();  // the buffer holds ones
        const double seconds = *std::max_element(end.begin(), end.end()) - *std::min_element(start.begin(), start.end());
        rates.push_back(double(threads * part) / seconds);
    }
    return median(rates);
}

}  // namespace bench

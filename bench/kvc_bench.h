// The benchmarks of kvc alone. Each registers itself by name: kind/shape/codec/.../threads.
#pragma once
#include <benchmark/benchmark.h>
#include <cstdint>
#include <memory>

#include "bench/bandwidth.h"
#include "bench/layer_cache.h"
#include "bench/workload.h"

namespace bench {

// What all benchmarks of the process share.
struct Bench {
    Numbers numbers;
    CacheFlush flush;
    ReadProbe probe;

    // The filled cache of the request; kept until another one is asked for, because filling takes longer than measuring.
    LayerCache& cache(const CacheRequest& request);

private:
    std::unique_ptr<LayerCache> cache_;
};

void register_decode(Bench& bench);
void register_prefill(Bench& bench);
void register_overhead(Bench& bench);
void register_append(Bench& bench);
void register_mass(Bench& bench);

}  // namespace bench

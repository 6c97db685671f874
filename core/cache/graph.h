// Steps that a caller holds as a graph of the device's launches: captured once, replayed for sequences as they grow.
//
// A captured step computes nothing and publishes nothing: it only says which calls there are. A replay begins as any step does, makes
// the tables of all these calls at once, and is committed as ever; between the two the caller launches its graph.
#pragma once
#include <memory>
#include <vector>

#include "core/backend/device.h"
#include "core/cache/step.h"

namespace kvc {

struct GraphRequest {
    std::vector<int64_t> counts;  // new tokens of each sequence
    int64_t most_tokens = 0;      // of a sequence once a step is committed
    int64_t attends = 0;          // in a step; 0: one for each layer
    int64_t slots = 0;            // steps whose tables may be on their way at a time; 0: 4
};

class Graph {
public:
    Graph(Cache& cache, GraphRequest request) : cache_(cache), request_(std::move(request)) {}

private:
    friend class Cache;
    friend class Step;

    Status check_options(const StepOptions& options) const;

    Cache& cache_;
    const GraphRequest request_;
    std::unique_ptr<DeviceGraph> device_;

    // ---- of the captured step, under the cache's lock ----
    StepOptions options_;
    std::vector<GraphCall> calls_;  // empty: there is none yet
    bool in_step_ = false, retired_ = false;
};

}  // namespace kvc

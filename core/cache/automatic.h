// When a cache's policy acts, and which queries it watches.
#pragma once
#include "core/attend/plan.h"
#include "core/base/status.h"
#include "core/policy/spec.h"
#include "core/store/sequence.h"

namespace kvc {

// What a step of `count` tokens contributes. The windows of a policy that acts every so many positions lie on a fixed grid of indices, so
// that no cut of the stream changes what it sees at a boundary. One that acts at commits, or when it is called, sees the newest queries.
Observation mass_observation(const PolicySpec& policy, const Sequence& sequence, int64_t count);
Observation query_observation(const PolicySpec& policy, const Sequence& sequence, int64_t count);
// Of the queries begin .. end - 1, those whose attention a policy that adds it up has counted.
int64_t counted_queries(const PolicySpec& policy, int64_t begin, int64_t end);

// Whether a decision about a layer now would rest on the queries that the policy is said to look at.
Status check_watched(const PolicySpec& policy, const Sequence& sequence, size_t layer);

}  // namespace kvc

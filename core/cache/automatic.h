// When a cache's policy acts, and which queries it watches.
#pragma once
#include "core/attend/plan.h"
#include "core/policy/spec.h"

namespace kvc {

// What a step of `count` tokens on a sequence of `length` tokens contributes. Windows lie on a fixed grid of indices, so that no cut of
// the stream changes what a policy sees at a boundary.
Observation mass_observation(const PolicySpec& policy, int64_t length, int64_t count);
Observation query_observation(const PolicySpec& policy, int64_t length, int64_t count);

}  // namespace kvc

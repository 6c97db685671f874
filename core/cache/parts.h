// What a cache is put together from, checked before anything is allocated: kvc_supports, kvc_plan_compute and kvc_create all ask here,
// so that they cannot disagree.
#pragma once
#include "core/cache/config.h"

namespace kvc {

struct CacheParts {
    PolicySpec policy;
    std::vector<Layer> layers;
    const KernelTable* kernels = nullptr;
    ArenaOptions arena;
};

// Whether a configuration may leave the size of its arena open. A size that is given is checked in both cases.
enum class ArenaSize { required, optional };

Result<CacheParts> check_parts(const CacheConfig& config, ArenaSize size);

}  // namespace kvc

// The library's live objects, and calls from handles to them.
#pragma once
#include <memory>

#include "capi/boundary.h"
#include "capi/registry.h"
#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {

struct CacheObject {
    std::shared_ptr<Cache> cache;
    std::mutex steps_mutex;
    std::vector<uint64_t> steps;  // handles of its open steps
};

struct StepObject {
    std::unique_ptr<Step> step;
    uint64_t cache;  // handle of its cache
};

Registry<CacheObject, HandleKind::cache>& caches();
Registry<StepObject, HandleKind::step>& steps();

inline uint64_t handle_of(const kvc_cache* cache) { return reinterpret_cast<uint64_t>(cache); }
inline uint64_t handle_of(const kvc_step* step) { return reinterpret_cast<uint64_t>(step); }

inline Status no_cache(const char* what) { return fail(Code::handle, what, ": not a live cache"); }
inline Status no_step(const char* what) { return fail(Code::handle, what, ": not an open step"); }

// Runs body(Cache&) -> Status on a live cache.
template <class Body>
kvc_status with_cache(const char* what, const kvc_cache* handle, kvc_error* err, Body&& body) noexcept {
    return guard(err, [&]() -> Status {
        auto pin = caches().find(handle_of(handle));
        return pin ? body(*pin->cache) : no_cache(what);
    });
}

}  // namespace kvc

// The library's live objects, and calls from handles to them.
#pragma once
#include <memory>

#include "capi/boundary.h"
#include "capi/registry.h"
#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {

class Graph;

struct CacheObject {
    std::shared_ptr<Cache> cache;
    std::mutex steps_mutex;
    std::vector<uint64_t> steps;   // handles of its open steps
    std::vector<uint64_t> graphs;  // and of its graphs
};

struct StepObject {
    std::unique_ptr<Step> step;
    uint64_t cache;  // handle of its cache
};

struct GraphObject {
    GraphObject(std::shared_ptr<Cache> of, std::unique_ptr<Graph> made);
    ~GraphObject();
    std::shared_ptr<Cache> cache;  // outlives the graph
    std::unique_ptr<Graph> graph;
    uint64_t cache_handle = 0;
};

Registry<CacheObject, HandleKind::cache>& caches();
Registry<StepObject, HandleKind::step>& steps();
Registry<GraphObject, HandleKind::graph>& graphs();

inline uint64_t handle_of(const kvc_cache* cache) { return reinterpret_cast<uint64_t>(cache); }
inline uint64_t handle_of(const kvc_step* step) { return reinterpret_cast<uint64_t>(step); }
inline uint64_t handle_of(const kvc_graph* graph) { return reinterpret_cast<uint64_t>(graph); }

inline Status no_cache(const char* what) { return fail(Code::handle, what, ": not a live cache"); }
inline Status no_step(const char* what) { return fail(Code::handle, what, ": not an open step"); }
inline Status no_graph(const char* what) { return fail(Code::handle, what, ": not a live graph"); }

// Runs body(Cache&) -> Status on a live cache.
template <class Body>
kvc_status with_cache(const char* what, const kvc_cache* handle, kvc_error* err, Body&& body) noexcept {
    return guard(err, [&]() -> Status {
        auto pin = caches().find(handle_of(handle));
        return pin ? body(*pin->cache) : no_cache(what);
    });
}

}  // namespace kvc

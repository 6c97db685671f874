// Graphs: create and destroy. Steps name them (step.cpp).
#include "core/cache/graph.h"

#include "capi/handles.h"

namespace kvc {

Registry<GraphObject, HandleKind::graph>& graphs() {
    static auto* registry = new Registry<GraphObject, HandleKind::graph>;  // never destroyed, as those of caches and steps
    return *registry;
}

GraphObject::GraphObject(std::shared_ptr<Cache> of, std::unique_ptr<Graph> made) : cache(std::move(of)), graph(std::move(made)) {}
GraphObject::~GraphObject() = default;

namespace {

Result<uint64_t> create(CacheObject& object, uint64_t cache, GraphRequest request) {
    Result<std::unique_ptr<Graph>> graph = object.cache->create_graph(std::move(request));
    if (!graph.ok()) return graph.status();
    auto made = std::make_unique<GraphObject>(object.cache, std::move(*graph));
    made->cache_handle = cache;
    std::lock_guard lock(object.steps_mutex);
    object.graphs.reserve(object.graphs.size() + 1);
    const uint64_t handle = graphs().insert(made.get());
    if (handle == 0) return fail(Code::no_memory, "graph_create: too many graphs");
    made.release();
    object.graphs.push_back(handle);
    return handle;
}

}  // namespace
}  // namespace kvc

using namespace kvc;

kvc_graph* kvc_graph_create(kvc_cache* cache, const int64_t* counts, int64_t n, int64_t max_tokens, int64_t attends, int64_t slots,
                            kvc_error* err) {
    const uint64_t handle = guard_value<uint64_t>(err, 0, [&]() -> Result<uint64_t> {
        auto pin = caches().find(handle_of(cache));
        if (!pin) return no_cache("graph_create");
        if (n < 1 || n > int64_t{1} << 24) return fail(Code::argument, "graph_create: n ", n, " is out of range (1 .. 2^24)");
        if (!counts) return fail(Code::argument, "graph_create: counts is NULL");
        return create(*pin, handle_of(cache), {{counts, counts + n}, max_tokens, attends, slots});
    });
    return reinterpret_cast<kvc_graph*>(handle);
}

kvc_status kvc_graph_destroy(kvc_graph* graph, kvc_error* err) {
    return guard(err, [&]() -> Status {
        uint64_t cache = 0;
        {
            auto pin = graphs().find(handle_of(graph));
            if (!pin) return no_graph("graph_destroy");
            KVC_TRY(pin->cache->retire_graph(*pin->graph));
            cache = pin->cache_handle;
        }
        const std::unique_ptr<GraphObject> object(graphs().remove(handle_of(graph)));
        if (auto pin = object ? caches().find(cache) : decltype(caches().find(cache)){}) {
            std::lock_guard lock(pin->steps_mutex);
            std::erase(pin->graphs, handle_of(graph));
        }
        return {};
    });
}

// Steps: begin, append, attend, commit, abort.
#include <algorithm>

#include "capi/handles.h"
#include "capi/options.h"
#include "capi/structs.h"

namespace kvc {
namespace {

Status read_flag(const char* what, int32_t value, bool* out) {
    if (value != 0 && value != 1) return fail(Code::argument, what, " ", int64_t(value), " is neither 0 nor 1");
    *out = value == 1;
    return {};
}

// The strides of buffer `name`, and its type, which the option `dtype_name` says.
Status read_layout(const char* name, const char* dtype_name, int32_t dtype, int64_t token_stride, int64_t head_stride,
                   BufferLayout* out) {
    Result<Dtype> type = read_dtype(dtype_name, dtype);
    if (!type.ok()) return type.status();
    if (token_stride < 0) return fail(Code::argument, name, "_token_stride ", token_stride, " is negative");
    if (head_stride < 0) return fail(Code::argument, name, "_head_stride ", head_stride, " is negative");
    *out = {*type, token_stride, head_stride};
    return {};
}

Result<StepOptions> read_step_options(const kvc_step_options* given, kvc_graph** graph) {
    kvc_step_options options = {};
    KVC_TRY(read_struct("step_options", given, &options));
    StepOptions out;
    KVC_TRY(read_layout("k", "kv_dtype", options.kv_dtype, options.k_token_stride, options.k_head_stride, &out.k));
    KVC_TRY(read_layout("v", "kv_dtype", options.kv_dtype, options.v_token_stride, options.v_head_stride, &out.v));
    KVC_TRY(read_layout("q", "q_dtype", options.q_dtype, options.q_token_stride, options.q_head_stride, &out.q));
    KVC_TRY(read_layout("out", "out_dtype", options.out_dtype, options.out_token_stride, options.out_head_stride, &out.out));
    KVC_TRY(read_flag("partial_commit", options.partial_commit, &out.partial_commit));
    KVC_TRY(read_flag("strict", options.strict, &out.strict));
    KVC_TRY(read_flag("accumulate", options.accumulate, &out.accumulate));
    if (options.buffers != KVC_DEVICE_DEFAULT && options.buffers != KVC_CPU && options.buffers != KVC_CUDA)
        return fail(Code::argument, "step_options: buffers ", int64_t(options.buffers), " is not a kvc_device");
    out.device_buffers = options.buffers == KVC_CUDA;
    out.stream = options.stream;
    *graph = options.graph;
    return out;
}

Result<AttendRequest> read_attend_options(const kvc_attend_options* given) {
    kvc_attend_options options = {};
    KVC_TRY(read_struct("attend_options", given, &options));
    AttendRequest out;
    out.scale = options.scale;
    out.soft_cap = options.soft_cap;
    KVC_TRY(read_flag("partial", options.partial, &out.partial));
    out.sliding_window = options.sliding_window;
    out.causal_offset = options.causal_offset;
    return out;
}

// Runs body(Step&) -> Status on an open step.
template <class Body>
kvc_status with_step(const char* what, kvc_step* handle, kvc_error* err, Body&& body) noexcept {
    return guard(err, [&]() -> Status {
        auto pin = steps().find(handle_of(handle));
        return pin ? body(*pin->step) : no_step(what);
    });
}

// Takes an ended step out of the registry and out of its cache's list.
void retire(kvc_step* handle) {
    std::unique_ptr<StepObject> object(steps().remove(handle_of(handle)));
    if (!object) return;  // its cache is being destroyed and does this
    if (auto cache = caches().find(object->cache)) {
        std::lock_guard lock(cache->steps_mutex);
        std::erase(cache->steps, handle_of(handle));
    }
}

Result<uint64_t> begin(CacheObject& object, uint64_t cache, std::span<const int64_t> ids, std::span<const int64_t> counts,
                       std::span<const int64_t> positions, const StepOptions& options) {
    {
        std::lock_guard lock(object.steps_mutex);
        object.steps.reserve(object.steps.size() + 1);
    }
    Result<std::unique_ptr<Step>> step = object.cache->begin(ids, counts, positions, options);
    if (!step.ok()) return step.status();
    auto made = std::make_unique<StepObject>();
    made->step = std::move(*step);
    made->cache = cache;
    std::lock_guard lock(object.steps_mutex);
    object.steps.reserve(object.steps.size() + 1);
    const uint64_t handle = steps().insert(made.get());
    if (handle == 0) return fail(Code::no_memory, "step_begin: too many open steps");
    made.release();
    object.steps.push_back(handle);
    return handle;
}

}  // namespace
}  // namespace kvc

using namespace kvc;

kvc_step* kvc_step_begin(kvc_cache* cache, const kvc_seq* seqs, const int64_t* token_counts, int64_t n, const int64_t* positions,
                         int64_t n_positions, const kvc_step_options* options, kvc_error* err) {
    const uint64_t handle = guard_value<uint64_t>(err, 0, [&]() -> Result<uint64_t> {
        auto pin = caches().find(handle_of(cache));
        if (!pin) return no_cache("step_begin");
        if (n < 1 || n > int64_t{1} << 24) return fail(Code::argument, "step_begin: n ", n, " is out of range (1 .. 2^24)");
        if (!seqs || !token_counts) return fail(Code::argument, "step_begin: seqs or token_counts is NULL");
        if (positions ? n_positions != n : n_positions != 0) {
            return fail(Code::argument, "step_begin: n_positions ", n_positions, ", expected ", positions ? n : 0);
        }
        kvc_graph* named = nullptr;
        Result<StepOptions> read = read_step_options(options, &named);
        if (!read.ok()) return read.status();
        const auto graph = graphs().find(handle_of(named));
        if (named && !graph) return no_graph("step_begin");
        read->graph = named ? graph->graph.get() : nullptr;
        return begin(*pin, handle_of(cache), {seqs, size_t(n)}, {token_counts, size_t(n)}, {positions, size_t(n_positions)}, *read);
    });
    return reinterpret_cast<kvc_step*>(handle);
}

kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes, kvc_error* err) {
    return with_step("append", step, err, [&](Step& s) { return s.append(layer, k, k_bytes, v, v_bytes); });
}

kvc_status kvc_attend(kvc_step* step, int64_t layer, const void* q, int64_t q_bytes, void* out, int64_t out_bytes, float* out_lse,
                      int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err) {
    return with_step("attend", step, err, [&](Step& s) -> Status {
        Result<AttendRequest> request = read_attend_options(options);
        if (!request.ok()) return request.status();
        request->q = q;
        request->q_bytes = q_bytes;
        request->out = out;
        request->out_bytes = out_bytes;
        request->out_lse = out_lse;
        request->lse_bytes = lse_bytes;
        return s.attend(layer, *request);
    });
}

kvc_status kvc_step_commit(kvc_step* step, const int64_t* accepted, int64_t n, kvc_error* err) {
    const kvc_status status = with_step("step_commit", step, err, [&](Step& s) -> Status {
        if (n < 0 || (accepted ? n < 1 : n != 0)) return fail(Code::argument, "step_commit: n ", n, " does not go with accepted");
        return s.commit({accepted, size_t(n)});
    });
    if (status == KVC_OK) guard(nullptr, [&]() -> Status { return retire(step), Status{}; });
    return status;
}

kvc_status kvc_step_abort(kvc_step* step, kvc_error* err) {
    const kvc_status status = with_step("step_abort", step, err, [&](Step& s) { return s.abort(); });
    if (status == KVC_OK) guard(nullptr, [&]() -> Status { return retire(step), Status{}; });
    return status;
}

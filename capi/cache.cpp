// Caches and sequences.
#include "capi/handles.h"
#include "capi/options.h"
#include "capi/structs.h"

namespace kvc {

Registry<CacheObject, HandleKind::cache>& caches() {
    static auto* registry = new Registry<CacheObject, HandleKind::cache>;  // never destroyed: calls may come during exit
    return *registry;
}

Registry<StepObject, HandleKind::step>& steps() {
    static auto* registry = new Registry<StepObject, HandleKind::step>;
    return *registry;
}

namespace {

template <class T>
Status write_out(const char* what, Result<T> result, T* out) {
    if (!out) return fail(Code::argument, what, ": out is NULL");
    if (!result.ok()) return result.status();
    *out = *result;
    return {};
}

Result<bool> read_cut(const char* what, int32_t cut) {
    if (cut == KVC_CUT_EXACT || cut == KVC_CUT_INEXACT) return cut == KVC_CUT_INEXACT;
    return fail(Code::argument, what, ": cut ", int64_t(cut), " is not a kvc_cut");
}

}  // namespace
}  // namespace kvc

using namespace kvc;

kvc_cache* kvc_create(const kvc_options* options, const kvc_layer* layers, int64_t n_layers, kvc_error* err) {
    const uint64_t handle = guard_value<uint64_t>(err, 0, [&]() -> Result<uint64_t> {
        Result<CacheConfig> config = read_options(options, layers, n_layers);
        if (!config.ok()) return config.status();
        Result<std::shared_ptr<Cache>> cache = Cache::create(*config);
        if (!cache.ok()) return cache.status();
        auto object = std::make_unique<CacheObject>();
        object->cache = std::move(*cache);
        const uint64_t made = caches().insert(object.get());
        if (made == 0) return fail(Code::no_memory, "create: too many caches");
        object.release();
        return made;
    });
    return reinterpret_cast<kvc_cache*>(handle);
}

kvc_status kvc_destroy(kvc_cache* cache, kvc_error* err) {
    return guard(err, [&]() -> Status {
        std::unique_ptr<CacheObject> object(caches().remove(handle_of(cache)));
        if (!object) return no_cache("destroy");
        for (uint64_t handle : object->steps)
            delete steps().remove(handle);
        for (uint64_t handle : object->graphs)
            delete graphs().remove(handle);
        return {};
    });
}

kvc_status kvc_sink_logits_set(kvc_cache* cache, int64_t layer, const float* logits, int64_t n, kvc_error* err) {
    return with_cache("sink_logits_set", cache, err, [&](Cache& c) -> Status {
        if (n < 0 || (n > 0 && !logits)) return fail(Code::argument, "sink_logits_set: n ", n, " without logits");
        return c.set_sink_logits(layer, {logits, size_t(n)});
    });
}

kvc_status kvc_rope_frequencies_set(kvc_cache* cache, int64_t layer, const double* frequencies, int64_t n, kvc_error* err) {
    return with_cache("rope_frequencies_set", cache, err, [&](Cache& c) -> Status {
        if (n < 1 || !frequencies) return fail(Code::argument, "rope_frequencies_set: n ", n, " without frequencies");
        return c.set_rope_frequencies(layer, {frequencies, size_t(n)});
    });
}

kvc_seq kvc_seq_create(kvc_cache* cache, const kvc_seq_options* options, kvc_error* err) {
    kvc_seq made = 0;
    with_cache("seq_create", cache, err, [&](Cache& c) -> Status {
        kvc_seq_options given = {};
        KVC_TRY(read_struct("seq_options", options, &given));
        if (given.reserved != 0) return fail(Code::argument, "seq_create: reserved is not 0");
        return write_out("seq_create", c.create_sequence(given.first_position, given.prompt_length), &made);
    });
    return made;
}

kvc_status kvc_seq_destroy(kvc_cache* cache, kvc_seq seq, kvc_error* err) {
    return with_cache("seq_destroy", cache, err, [&](Cache& c) { return c.destroy_sequence(seq); });
}

kvc_seq kvc_seq_fork(kvc_cache* cache, kvc_seq seq, int64_t length, int32_t cut, kvc_error* err) {
    kvc_seq made = 0;
    with_cache("seq_fork", cache, err, [&](Cache& c) -> Status {
        Result<bool> inexact = read_cut("seq_fork", cut);
        return inexact.ok() ? write_out("seq_fork", c.fork(seq, length, *inexact), &made) : inexact.status();
    });
    return made;
}

kvc_status kvc_seq_truncate(kvc_cache* cache, kvc_seq seq, int64_t length, int32_t cut, kvc_error* err) {
    return with_cache("seq_truncate", cache, err, [&](Cache& c) -> Status {
        Result<bool> inexact = read_cut("seq_truncate", cut);
        return inexact.ok() ? c.truncate(seq, length, *inexact) : inexact.status();
    });
}

kvc_status kvc_seq_length(const kvc_cache* cache, kvc_seq seq, int64_t* out, kvc_error* err) {
    return with_cache("seq_length", cache, err, [&](Cache& c) { return write_out("seq_length", c.length(seq), out); });
}

kvc_status kvc_seq_exact_floor(const kvc_cache* cache, kvc_seq seq, int64_t* out, kvc_error* err) {
    return with_cache("seq_exact_floor", cache, err, [&](Cache& c) { return write_out("seq_exact_floor", c.exact_floor(seq), out); });
}

kvc_status kvc_seq_live(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, kvc_error* err) {
    return with_cache("seq_live", cache, err, [&](Cache& c) { return write_out("seq_live", c.live(seq, layer, head), out); });
}

kvc_status kvc_seq_budget_set(kvc_cache* cache, kvc_seq seq, int64_t budget, kvc_error* err) {
    return with_cache("seq_budget_set", cache, err, [&](Cache& c) { return c.set_budget(seq, budget); });
}

kvc_status kvc_seq_step_limit(const kvc_cache* cache, kvc_seq seq, int64_t* out, kvc_error* err) {
    return with_cache("seq_step_limit", cache, err, [&](Cache& c) { return write_out("seq_step_limit", c.step_limit(seq), out); });
}

kvc_status kvc_seq_prompt_set(kvc_cache* cache, kvc_seq seq, int64_t end, kvc_error* err) {
    return with_cache("seq_prompt_set", cache, err, [&](Cache& c) { return c.set_prompt_end(seq, end); });
}

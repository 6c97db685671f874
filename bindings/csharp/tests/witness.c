/* Loaded before libkvc.so. It remembers which addresses kvc_append and kvc_attend were given, so that a test can tell that they are the
 * caller's own and not those of a copy. And it plays a device whose memory is the host's, so that what the binding does with buffers is
 * tested on machines without one: it counts those that live, and those that were destroyed later than their cache. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <kvc.h>
#include <stdlib.h>
#include <string.h>

static const void* seen[5]; /* k, v, q, out, lse */

KVC_API const void* witness_seen(int which) { return seen[which]; }

KVC_API kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes,
                              kvc_error* err) {
    static kvc_status (*next)(kvc_step*, int64_t, const void*, int64_t, const void*, int64_t, kvc_error*);
    if (!next) *(void**)&next = dlsym(RTLD_NEXT, "kvc_append");
    seen[0] = k, seen[1] = v;
    return next(step, layer, k, k_bytes, v, v_bytes, err);
}

KVC_API kvc_status kvc_attend(kvc_step* step, int64_t layer, const void* q, int64_t q_bytes, void* out, int64_t out_bytes,
                              float* out_lse, int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err) {
    static kvc_status (*next)(kvc_step*, int64_t, const void*, int64_t, void*, int64_t, float*, int64_t, const kvc_attend_options*,
                              kvc_error*);
    if (!next) *(void**)&next = dlsym(RTLD_NEXT, "kvc_attend");
    seen[2] = q, seen[3] = out, seen[4] = out_lse;
    return next(step, layer, q, q_bytes, out, out_bytes, out_lse, lse_bytes, options, err);
}

static int64_t buffers, late;

KVC_API int64_t witness_buffers(void) { return __atomic_load_n(&buffers, __ATOMIC_SEQ_CST); }
/* Since it was last asked. */
KVC_API int64_t witness_late(void) { return __atomic_exchange_n(&late, 0, __ATOMIC_SEQ_CST); }

static kvc_status live(kvc_cache* cache, kvc_error* err) {
    kvc_stats stats = {sizeof stats};
    return kvc_stats_get(cache, &stats, err);
}

KVC_API void* kvc_buffer_create(kvc_cache* cache, int32_t kind, int64_t bytes, kvc_error* err) {
    static void* (*next)(kvc_cache*, int32_t, int64_t, kvc_error*);
    if (!next) *(void**)&next = dlsym(RTLD_NEXT, "kvc_buffer_create");
    if (kind != KVC_BUFFER_PINNED) return next(cache, kind, bytes, err); /* the device's own memory stays refused */
    if (live(cache, err)) return NULL;
    __atomic_add_fetch(&buffers, 1, __ATOMIC_SEQ_CST);
    return calloc(1, (size_t)bytes);
}

KVC_API kvc_status kvc_buffer_destroy(kvc_cache* cache, int32_t kind, void* buffer, kvc_error* err) {
    const kvc_status status = live(cache, err);
    if (status) __atomic_add_fetch(&late, 1, __ATOMIC_SEQ_CST);
    __atomic_sub_fetch(&buffers, 1, __ATOMIC_SEQ_CST);
    free(buffer);
    return status;
}

KVC_API kvc_status kvc_buffer_copy(kvc_cache* cache, void* to, int32_t to_device, const void* from, int32_t from_device, int64_t bytes,
                                   kvc_error* err) {
    if (to_device == KVC_CUDA && from_device == KVC_CPU) memcpy(to, from, (size_t)bytes);
    return live(cache, err);
}

/* What another thread may do between the two calls of an export or load that first asks how much there is: done once, right after the
 * first of them. */
static void (*between)(void);

KVC_API void witness_between(void (*call)(void)) { between = call; }

static void asked(int64_t room) {
    void (*const call)(void) = room == 0 ? between : NULL;
    if (!call) return;
    between = NULL;
    call();
}

KVC_API kvc_status kvc_snapshot_export(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, void* out, int64_t out_bytes,
                                       int64_t* out_written, kvc_error* err) {
    static kvc_status (*next)(const kvc_cache*, const kvc_seq*, int64_t, void*, int64_t, int64_t*, kvc_error*);
    if (!next) *(void**)&next = dlsym(RTLD_NEXT, "kvc_snapshot_export");
    const kvc_status status = next(cache, seqs, n, out, out_bytes, out_written, err);
    asked(out_bytes);
    return status;
}

KVC_API kvc_status kvc_snapshot_load(kvc_cache* cache, const char* path, kvc_seq* out, int64_t capacity, int64_t* out_n,
                                     kvc_error* err) {
    static kvc_status (*next)(kvc_cache*, const char*, kvc_seq*, int64_t, int64_t*, kvc_error*);
    if (!next) *(void**)&next = dlsym(RTLD_NEXT, "kvc_snapshot_load");
    const kvc_status status = next(cache, path, out, capacity, out_n, err);
    asked(capacity);
    return status;
}

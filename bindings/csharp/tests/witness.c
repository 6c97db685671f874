/* Loaded before libkvc.so: remembers which addresses kvc_append and kvc_attend were given, so that a test can tell that they are the
 * caller's own and not those of a copy. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <kvc.h>

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

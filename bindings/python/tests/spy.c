/* Loaded before libkvc: counts what lives, tells where the buffers of calls lie, fails and waits on demand. A cache that is asked for on a
 * CUDA device becomes one on the host whose "device memory" is the host's, so that a machine without a GPU shows what the binding hands
 * over. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <kvc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int64_t spy_caches, spy_buffers, spy_graphs; /* alive */
const void* spy_seen[6];                     /* k, v of the last append; q, out, lse of the last attend; stream of the last step */
int64_t spy_bytes[2];                        /* of k and of q */
int32_t spy_status, spy_wait_ms;             /* of kvc_synchronize */
int32_t spy_attend_status;                   /* of kvc_attend */
int32_t spy_abort_status;                    /* of kvc_step_abort */
void (*spy_between)(void);                   /* called when a snapshot was asked for its size or number alone */
volatile int32_t spy_inside;                 /* 1 while it waits */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

kvc_cache* kvc_create(const kvc_options* options, const kvc_layer* layers, int64_t n, kvc_error* err) {
    kvc_options on_host = *options;
    on_host.device = KVC_CPU;
    kvc_cache* made = REAL(kvc_create)(&on_host, layers, n, err);
    if (made) __atomic_add_fetch(&spy_caches, 1, __ATOMIC_SEQ_CST);
    return made;
}

kvc_status kvc_destroy(kvc_cache* cache, kvc_error* err) {
    const kvc_status status = REAL(kvc_destroy)(cache, err);
    if (status == KVC_OK) __atomic_sub_fetch(&spy_caches, 1, __ATOMIC_SEQ_CST);
    return status;
}

kvc_step* kvc_step_begin(kvc_cache* cache, const kvc_seq* seqs, const int64_t* counts, int64_t n, const int64_t* positions,
                         int64_t n_positions, const kvc_step_options* options, kvc_error* err) {
    spy_seen[5] = NULL;
    if (!options) return REAL(kvc_step_begin)(cache, seqs, counts, n, positions, n_positions, NULL, err);
    kvc_step_options on_host = *options;
    spy_seen[5] = options->stream;
    on_host.buffers = KVC_CPU;
    on_host.stream = NULL;
    if (spy_graphs && options->graph == (kvc_graph*)&spy_graphs) on_host.graph = NULL;
    return REAL(kvc_step_begin)(cache, seqs, counts, n, positions, n_positions, &on_host, err);
}

kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes, kvc_error* err) {
    spy_seen[0] = k, spy_seen[1] = v, spy_bytes[0] = k_bytes;
    return REAL(kvc_append)(step, layer, k, k_bytes, v, v_bytes, err);
}

static kvc_status told_to_fail(const char* function, int32_t status, kvc_error* err) {
    if (!err) return (kvc_status)status;
    err->status = status;
    snprintf(err->message, sizeof err->message, "%s: told to fail with %d", function, (int)status);
    return (kvc_status)status;
}

kvc_status kvc_attend(kvc_step* step, int64_t layer, const void* q, int64_t q_bytes, void* out, int64_t out_bytes, float* lse,
                      int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err) {
    spy_seen[2] = q, spy_seen[3] = out, spy_seen[4] = lse, spy_bytes[1] = q_bytes;
    if (spy_attend_status) return told_to_fail("attend", spy_attend_status, err);
    return REAL(kvc_attend)(step, layer, q, q_bytes, out, out_bytes, lse, lse_bytes, options, err);
}

kvc_status kvc_step_abort(kvc_step* step, kvc_error* err) {
    return spy_abort_status ? told_to_fail("step_abort", spy_abort_status, err) : REAL(kvc_step_abort)(step, err);
}

kvc_status kvc_snapshot_export(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, void* out, int64_t out_bytes,
                               int64_t* out_written, kvc_error* err) {
    const kvc_status status = REAL(kvc_snapshot_export)(cache, seqs, n, out, out_bytes, out_written, err);
    if (!out && spy_between) spy_between();
    return status;
}

kvc_status kvc_snapshot_load(kvc_cache* cache, const char* path, kvc_seq* out, int64_t capacity, int64_t* out_n, kvc_error* err) {
    const kvc_status status = REAL(kvc_snapshot_load)(cache, path, out, capacity, out_n, err);
    if (!out && spy_between) spy_between();
    return status;
}

kvc_status kvc_synchronize(kvc_cache* cache, kvc_error* err) {
    if (spy_wait_ms) {
        spy_inside = 1;
        usleep((unsigned)spy_wait_ms * 1000);
        spy_inside = 0;
    }
    if (!spy_status) return REAL(kvc_synchronize)(cache, err);
    return told_to_fail("synchronize", spy_status, err);
}

void* kvc_buffer_create(kvc_cache* cache, int32_t kind, int64_t bytes, kvc_error* err) {
    void* made = NULL;
    if (kind == KVC_BUFFER_UNSET || posix_memalign(&made, 256, (size_t)bytes)) return REAL(kvc_buffer_create)(cache, kind, bytes, err);
    ++spy_buffers;
    return made;
}

kvc_status kvc_buffer_destroy(kvc_cache* cache, int32_t kind, void* buffer, kvc_error* err) {
    (void)kind;
    if (REAL(kvc_synchronize)(cache, err) != KVC_OK) return KVC_E_HANDLE; /* after the cache's end */
    free(buffer);
    --spy_buffers;
    return KVC_OK;
}

/* One graph at a time, of which the library knows nothing: it refuses its handle, unless the graph is alive here. */
kvc_graph* kvc_graph_create(kvc_cache* cache, const int64_t* counts, int64_t n, int64_t max_tokens, int64_t attends, int64_t slots,
                            kvc_error* err) {
    if (n == 0) return REAL(kvc_graph_create)(cache, counts, n, max_tokens, attends, slots, err);
    ++spy_graphs;
    return (kvc_graph*)&spy_graphs;
}

kvc_status kvc_graph_destroy(kvc_graph* graph, kvc_error* err) {
    if (!spy_graphs || graph != (kvc_graph*)&spy_graphs) return REAL(kvc_graph_destroy)(graph, err);
    --spy_graphs;
    return KVC_OK;
}

kvc_status kvc_buffer_copy(kvc_cache* cache, void* to, int32_t to_device, const void* from, int32_t from_device, int64_t bytes,
                           kvc_error* err) {
    if (to_device != KVC_CUDA && from_device != KVC_CUDA)
        return REAL(kvc_buffer_copy)(cache, to, to_device, from, from_device, bytes, err);
    memcpy(to, from, (size_t)bytes);
    return KVC_OK;
}

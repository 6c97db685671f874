/* Compiled into the bridge of the tests, before libkvc.so in the order in which JNI and FFM look for functions. It remembers which addresses
 * kvc was given, so that a test can tell that they are those of the caller's buffers and not of copies, and makes calls over sequences and
 * steps wait before they begin, so that the collector has time to take what nobody holds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <jni.h>
#include <kvc.h>
#include <unistd.h>

enum { K, V, Q, OUT, LSE, EXPORTED, IMPORTED, READ, SCORES, SEEN };

static const void* seen[SEEN];
static volatile int32_t pause_ms;

JNIEXPORT jlong JNICALL Java_kvc_WitnessTests_seen(JNIEnv* env, jclass type, jint which) {
    (void)env, (void)type;
    return (jlong)(intptr_t)seen[which];
}

JNIEXPORT jlong JNICALL Java_kvc_WitnessTests_memory(JNIEnv* env, jclass type, jobject buffer) {
    (void)type;
    return (jlong)(intptr_t)(*env)->GetDirectBufferAddress(env, buffer);
}

JNIEXPORT void JNICALL Java_kvc_WitnessTests_pause(JNIEnv* env, jclass type, jint ms) {
    (void)env, (void)type;
    pause_ms = ms;
}

static void* real(const char* name) { return dlsym(dlopen("libkvc.so.1", RTLD_NOW | RTLD_NOLOAD), name); }

#define REAL(name) ((__typeof__(&name))real(#name))

static void wait_a_little(void) {
    if (pause_ms) usleep((unsigned)pause_ms * 1000);
}

KVC_API kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes,
                              kvc_error* err) {
    seen[K] = k, seen[V] = v;
    wait_a_little();
    return REAL(kvc_append)(step, layer, k, k_bytes, v, v_bytes, err);
}

KVC_API kvc_status kvc_attend(kvc_step* step, int64_t layer, const void* q, int64_t q_bytes, void* out, int64_t out_bytes,
                              float* out_lse, int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err) {
    seen[Q] = q, seen[OUT] = out, seen[LSE] = out_lse;
    wait_a_little();
    return REAL(kvc_attend)(step, layer, q, q_bytes, out, out_bytes, out_lse, lse_bytes, options, err);
}

KVC_API kvc_step* kvc_step_begin(kvc_cache* cache, const kvc_seq* seqs, const int64_t* token_counts, int64_t n,
                                 const int64_t* positions, int64_t n_positions, const kvc_step_options* options, kvc_error* err) {
    wait_a_little();
    return REAL(kvc_step_begin)(cache, seqs, token_counts, n, positions, n_positions, options, err);
}

KVC_API kvc_status kvc_step_commit(kvc_step* step, const int64_t* accepted, int64_t n, kvc_error* err) {
    wait_a_little();
    return REAL(kvc_step_commit)(step, accepted, n, err);
}

KVC_API kvc_status kvc_evict(kvc_cache* cache, kvc_seq seq, const float* scores, int64_t n_scores, const kvc_evict_options* options,
                             kvc_evict_report* out, kvc_error* err) {
    seen[SCORES] = scores;
    wait_a_little();
    return REAL(kvc_evict)(cache, seq, scores, n_scores, options, out, err);
}

KVC_API kvc_status kvc_seq_read(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t kv_head, int32_t part, int64_t first,
                                int64_t n, float* out, int64_t out_bytes, kvc_error* err) {
    seen[READ] = out;
    return REAL(kvc_seq_read)(cache, seq, layer, kv_head, part, first, n, out, out_bytes, err);
}

KVC_API kvc_status kvc_snapshot_export(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, void* out, int64_t out_bytes,
                                       int64_t* out_written, kvc_error* err) {
    seen[EXPORTED] = out;
    wait_a_little();
    return REAL(kvc_snapshot_export)(cache, seqs, n, out, out_bytes, out_written, err);
}

KVC_API kvc_status kvc_snapshot_import(kvc_cache* cache, const void* data, int64_t data_bytes, kvc_seq* out, int64_t capacity,
                                       int64_t* out_n, kvc_error* err) {
    seen[IMPORTED] = data;
    return REAL(kvc_snapshot_import)(cache, data, data_bytes, out, capacity, out_n, err);
}

KVC_API kvc_status kvc_snapshot_save(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, const char* path, kvc_error* err) {
    wait_a_little();
    return REAL(kvc_snapshot_save)(cache, seqs, n, path, err);
}

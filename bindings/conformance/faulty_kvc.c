/* Loaded before libkvc, makes it a library with one fault, FAULT_name of those below: what a replayer must notice, since a replayer that
 * misses one would miss the same fault of its own layer, too. bindings/conformance/faulty builds it and runs a replayer against each.
 *     cc -shared -fPIC -DFAULT_lse_ulp faulty_kvc.c -o lse_ulp.so $(pkg-config --cflags --libs kvc) -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <kvc.h>
#include <string.h>

/* The library's own function of that name. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#if defined(FAULT_output_bit) || defined(FAULT_lse_ulp)
kvc_status kvc_attend(kvc_step* step, int64_t layer, const void* q, int64_t q_bytes, void* out, int64_t out_bytes, float* out_lse,
                      int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err) {
    const kvc_status status = REAL(kvc_attend)(step, layer, q, q_bytes, out, out_bytes, out_lse, lse_bytes, options, err);
#ifdef FAULT_output_bit /* the lowest bit of the last element */
    if (status == KVC_OK && out_bytes > 0) ((unsigned char*)out)[out_bytes - (out_bytes % 4 == 0 ? 4 : 2)] ^= 1;
#else /* one log-sum-exp off by a unit in its last place */
    if (status == KVC_OK && out_lse && lse_bytes > 0) *(unsigned char*)out_lse ^= 1;
#endif
    return status;
}
#endif

#ifdef FAULT_values_for_keys /* append takes k for v and v for k */
kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes, kvc_error* err) {
    return REAL(kvc_append)(step, layer, v, v_bytes, k, k_bytes, err);
}
#endif

#ifdef FAULT_another_status /* a cut below the exact floor is called a wrong argument */
kvc_status kvc_seq_truncate(kvc_cache* cache, kvc_seq seq, int64_t length, int32_t cut, kvc_error* err) {
    const kvc_status status = REAL(kvc_seq_truncate)(cache, seq, length, cut, err);
    if (status == KVC_E_RANGE && err) err->status = KVC_E_ARGUMENT;
    return status == KVC_E_RANGE ? KVC_E_ARGUMENT : status;
}
#endif

#ifdef FAULT_refusal_lost /* an append that was refused is called done */
kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes, kvc_error* err) {
    const kvc_status status = REAL(kvc_append)(step, layer, k, k_bytes, v, v_bytes, err);
    if (status != KVC_E_NONFINITE) return status;
    if (err) err->status = KVC_OK;
    return KVC_OK;
}
#endif

#ifdef FAULT_fork_short /* a fork has one token too few */
kvc_seq kvc_seq_fork(kvc_cache* cache, kvc_seq seq, int64_t length, int32_t cut, kvc_error* err) {
    (void)cut;
    return REAL(kvc_seq_fork)(cache, seq, length - 1, KVC_CUT_INEXACT, err);
}
#endif

#ifdef FAULT_commit_all /* a commit of a part takes all */
kvc_status kvc_step_commit(kvc_step* step, const int64_t* accepted, int64_t n, kvc_error* err) {
    (void)accepted, (void)n;
    return REAL(kvc_step_commit)(step, NULL, 0, err);
}
#endif

#ifdef FAULT_code_byte
kvc_status kvc_seq_read_codes(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int32_t part, uint8_t* out,
                              int64_t out_bytes, int64_t* out_tokens, kvc_error* err) {
    const kvc_status status = REAL(kvc_seq_read_codes)(cache, seq, layer, head, part, out, out_bytes, out_tokens, err);
    if (status == KVC_OK && out && out_bytes > 0) out[out_bytes - 1] ^= 1;
    return status;
}
#endif

#ifdef FAULT_read_sign /* the last number read back has the other sign */
kvc_status kvc_seq_read(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int32_t part, int64_t first, int64_t n,
                        float* out, int64_t out_bytes, kvc_error* err) {
    const kvc_status status = REAL(kvc_seq_read)(cache, seq, layer, head, part, first, n, out, out_bytes, err);
    if (status == KVC_OK && out && out_bytes > 0) ((unsigned char*)out)[out_bytes - 1] ^= 0x80;
    return status;
}
#endif

#define LIST_OFF_BY(name, i, by)                                                                                      \
    kvc_status name(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity, \
                    int64_t* out_tokens, kvc_error* err) {                                                            \
        const kvc_status status = REAL(name)(cache, seq, layer, head, out, capacity, out_tokens, err);                \
        if (status == KVC_OK && out && capacity > 0) out[i] += by;                                                    \
        return status;                                                                                                \
    }

#ifdef FAULT_position_shifted
LIST_OFF_BY(kvc_seq_positions, capacity - 1, 1)
#endif
#ifdef FAULT_mass_unit /* 2^-30 of a query's mass */
LIST_OFF_BY(kvc_seq_read_mass, 0, 1)
#endif
#ifdef FAULT_count
LIST_OFF_BY(kvc_seq_read_counts, 0, 1)
#endif
#ifdef FAULT_rung
LIST_OFF_BY(kvc_seq_read_rungs, 0, 1)
#endif

#ifdef FAULT_stats_count
kvc_status kvc_stats_get(const kvc_cache* cache, kvc_stats* out, kvc_error* err) {
    const kvc_status status = REAL(kvc_stats_get)(cache, out, err);
    if (status == KVC_OK) out->tokens_appended++;
    return status;
}
#endif

#ifdef FAULT_evict_report
kvc_status kvc_evict(kvc_cache* cache, kvc_seq seq, const float* scores, int64_t n_scores, const kvc_evict_options* options,
                     kvc_evict_report* out, kvc_error* err) {
    const kvc_status status = REAL(kvc_evict)(cache, seq, scores, n_scores, options, out, err);
    if (status == KVC_OK && out) out->bytes_freed += 128;
    return status;
}
#endif

#ifdef FAULT_scores_ignored /* evict goes by age whatever scores say */
kvc_status kvc_evict(kvc_cache* cache, kvc_seq seq, const float* scores, int64_t n_scores, const kvc_evict_options* options,
                     kvc_evict_report* out, kvc_error* err) {
    (void)scores, (void)n_scores;
    return REAL(kvc_evict)(cache, seq, NULL, 0, options, out, err);
}
#endif

#ifdef FAULT_merge_biased /* merges as if `unbiased` had not been said */
kvc_status kvc_merge(kvc_cache* cache, kvc_seq seq, const int32_t* clusters, int64_t n_clusters, const kvc_merge_options* options,
                     kvc_evict_report* out, kvc_error* err) {
    kvc_merge_options biased = *options;
    biased.unbiased = 0;
    return REAL(kvc_merge)(cache, seq, clusters, n_clusters, &biased, out, err);
}
#endif

#ifdef FAULT_step_down_lowest /* all pages go to the lowest rung */
kvc_status kvc_step_down(kvc_cache* cache, kvc_seq seq, const kvc_step_down_options* options, kvc_step_down_report* out,
                         kvc_error* err) {
    kvc_step_down_options lowest = *options;
    lowest.rung = 0;
    return REAL(kvc_step_down)(cache, seq, &lowest, out, err);
}
#endif

#ifdef FAULT_snapshot_byte
kvc_status kvc_snapshot_export(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, void* out, int64_t out_bytes,
                               int64_t* out_written, kvc_error* err) {
    const kvc_status status = REAL(kvc_snapshot_export)(cache, seqs, n, out, out_bytes, out_written, err);
    if (status == KVC_OK && out && out_bytes > 0) ((unsigned char*)out)[out_bytes / 2] ^= 1;
    return status;
}
#endif

#ifdef FAULT_prefix_shared
kvc_seq kvc_prefix_lookup(kvc_cache* cache, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes,
                          const kvc_seq_options* options, kvc_prefix_hit* out, kvc_error* err) {
    const kvc_seq made = REAL(kvc_prefix_lookup)(cache, tokens, n, salt, salt_bytes, options, out, err);
    if (made) out->shared++;
    return made;
}
#endif

#ifdef FAULT_salt_forgotten /* all tenants see each other's prefixes */
kvc_status kvc_prefix_publish(kvc_cache* cache, kvc_seq seq, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes,
                              const kvc_prefix_options* options, kvc_error* err) {
    (void)salt, (void)salt_bytes;
    return REAL(kvc_prefix_publish)(cache, seq, tokens, n, NULL, 0, options, err);
}
#endif

#ifdef FAULT_plan_page
kvc_status kvc_plan_compute(const kvc_options* options, const kvc_layer* layers, int64_t n_layers, const kvc_plan_request* request,
                            kvc_plan* out, kvc_error* err) {
    const kvc_status status = REAL(kvc_plan_compute)(options, layers, n_layers, request, out, err);
    if (status == KVC_OK) out->arena_bytes += 128;
    return status;
}
#endif

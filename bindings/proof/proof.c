/* The program that every binding repeats over its raw layer (bindings/README.md says what it does); the digests must be equal.
 *     proof [target]          target: a kernel target to force, such as scalar */
#include "../abi_check.h"
#include "sha256.h"

enum { LAYERS = 2, KV_HEADS = 2, Q_HEADS = 4, DIM = 64, PROMPT = 200 };

static kvc_error err = {sizeof err};
static sha256 hash;
static uint32_t seed = 1;

static void check(int good) {
    if (good) return;
    fprintf(stderr, "proof.c: %s: %s\n", kvc_status_name(err.status), err.message);
    exit(1);
}

/* Multiples of 2^-15 from an integer generator: exact in every language. */
static void fill(float* data, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (float)((int32_t)(seed >> 16) - 32768) / 32768.0f;
    }
}

static void run_step(kvc_cache* cache, kvc_seq seq, int64_t tokens) {
    static float k[PROMPT * KV_HEADS * DIM], v[PROMPT * KV_HEADS * DIM], q[PROMPT * Q_HEADS * DIM], out[PROMPT * Q_HEADS * DIM];
    static float lse[PROMPT * Q_HEADS];
    const int64_t kv = tokens * KV_HEADS * DIM, qo = tokens * Q_HEADS * DIM, l = tokens * Q_HEADS;
    kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, NULL, 0, NULL, &err);
    check(step != NULL);
    for (int64_t layer = 0; layer < LAYERS; ++layer) {
        fill(k, kv);
        fill(v, kv);
        fill(q, qo);
        check(kvc_append(step, layer, k, kv * 4, v, kv * 4, &err) == KVC_OK);
        check(kvc_attend(step, layer, q, qo * 4, out, qo * 4, lse, l * 4, NULL, &err) == KVC_OK);
        sha256_add(&hash, out, qo * 4);
        sha256_add(&hash, lse, l * 4);
    }
    check(kvc_step_commit(step, NULL, 0, &err) == KVC_OK);
}

static void read_back(kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head) {
    int64_t live = 0;
    check(kvc_seq_live(cache, seq, layer, head, &live, &err) == KVC_OK);
    int64_t* positions = (int64_t*)calloc((size_t)live, sizeof *positions);
    float* rows = (float*)calloc((size_t)live * DIM, sizeof *rows);
    if (!positions || !rows) abort();
    check(kvc_seq_positions(cache, seq, layer, head, positions, live, NULL, &err) == KVC_OK);
    sha256_add(&hash, positions, live * 8);
    for (int32_t part = KVC_KEYS; part <= KVC_VALUES; ++part) {
        check(kvc_seq_read(cache, seq, layer, head, part, 0, live, rows, live * DIM * 4, &err) == KVC_OK);
        sha256_add(&hash, rows, live * DIM * 4);
    }
    free(positions);
    free(rows);
}

static kvc_cache* create(const char* target) {
    kvc_options options;
    check(kvc_options_init(&options, sizeof options) == KVC_OK);
    options.layers = LAYERS;
    options.kv_heads = KV_HEADS;
    options.q_heads = Q_HEADS;
    options.k_dim = options.v_dim = DIM;
    options.arena_tokens = 1024;
    strcpy(options.codec, "int4");
    snprintf(options.target, sizeof options.target, "%s", target);
    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    check(cache != NULL);
    return cache;
}

int main(int argc, char** argv) {
    char* mismatch = kvc_abi_mismatch();
    if (mismatch) return fprintf(stderr, "proof.c: %s\n", mismatch), 1;
    sha256_begin(&hash);
    kvc_cache* cache = create(argc > 1 ? argv[1] : "");
    const kvc_seq seq = kvc_seq_create(cache, NULL, &err);
    check(seq != 0);
    run_step(cache, seq, PROMPT);
    for (int i = 0; i < 150; ++i)
        run_step(cache, seq, 1);
    kvc_evict_options evict;
    check(kvc_evict_options_init(&evict, sizeof evict) == KVC_OK);
    evict.budget = 256;
    kvc_evict_report report = {sizeof report};
    check(kvc_evict(cache, seq, NULL, 0, &evict, &report, &err) == KVC_OK);
    for (int i = 0; i < 20; ++i)
        run_step(cache, seq, 1);
    for (int64_t layer = 0; layer < LAYERS; ++layer)
        for (int64_t head = 0; head < KV_HEADS; ++head)
            read_back(cache, seq, layer, head);
    kvc_stats stats = {sizeof stats};
    check(kvc_stats_get(cache, &stats, &err) == KVC_OK);
    const int64_t counts[] = {report.tokens_evicted, report.records_freed,  report.bytes_freed, stats.tokens_appended,
                              stats.tokens_evicted,  stats.pages_quantized, stats.record_bytes, stats.sequences};
    sha256_add(&hash, counts, sizeof counts);
    check(kvc_destroy(cache, &err) == KVC_OK);
    if (kvc_destroy(cache, &err) != KVC_E_HANDLE) return fprintf(stderr, "proof.c: a cache was destroyed twice\n"), 1;
    sha256_print(&hash);
    return 0;
}

/* What the calls of a decode step cost from C: the program that the other languages' are measured against. bench/README.md says what is timed. */
#include <kvc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    LAYERS = 30,
    KV_HEADS = 3,
    Q_HEADS = 9,
    DIM = 64,
    ROUNDS = 21,
    NO_OPS = 20000,
    SEQUENCES = 300,
    SHORT_STEPS = 32,
    MAX_STEPS = 10000
};

static float k[KV_HEADS * DIM], v[KV_HEADS * DIM], q[Q_HEADS * DIM], out[Q_HEADS * DIM];
static double samples[2][MAX_STEPS];
static kvc_error err = {sizeof err};

static void check(int good) {
    if (good) return;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static int compare(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

static double median(double* of, int n) {
    qsort(of, n, sizeof *of, compare);
    return of[n / 2];
}

static void fill(float* row, int n) {
    for (int i = 0; i < n; ++i)
        row[i] = (i * 37 % 101 - 50) / 50.0f;
}

static kvc_cache* create(long long tokens) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = LAYERS;
    options.kv_heads = KV_HEADS;
    options.q_heads = Q_HEADS;
    options.k_dim = options.v_dim = DIM;
    snprintf(options.codec, sizeof options.codec, "int4");
    options.arena_tokens = tokens;
    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    check(cache != NULL);
    return cache;
}

static kvc_step* begin(kvc_cache* cache, kvc_seq seq, int64_t count) {
    kvc_step* step = kvc_step_begin(cache, &seq, &count, 1, NULL, 0, NULL, &err);
    check(step != NULL);
    return step;
}

static double no_op_ns(void) {
    for (int round = 0; round < ROUNDS; ++round) {
        int64_t sum = 0;
        double from = now();
        for (int i = 0; i < NO_OPS; ++i)
            sum += kvc_abi_version();
        samples[0][round] = (now() - from) / NO_OPS;
        check(sum > 0);
    }
    return median(samples[0], ROUNDS);
}

static void calls_ns(double* append, double* attend) {
    kvc_cache* cache = create(1024);
    for (int s = 0, at = 0; s < SEQUENCES; ++s) {
        kvc_seq seq = kvc_seq_create(cache, NULL, &err);
        check(seq != 0);
        for (int i = 0; i < SHORT_STEPS; ++i, ++at) {
            kvc_step* step = begin(cache, seq, 1);
            double from = now();
            for (int layer = 0; layer < LAYERS; ++layer)
                check(!kvc_append(step, layer, k, sizeof k, v, sizeof v, &err));
            double middle = now();
            for (int layer = 0; layer < LAYERS; ++layer)
                check(!kvc_attend(step, layer, q, sizeof q, out, sizeof out, NULL, 0, NULL, &err));
            samples[0][at] = (middle - from) / LAYERS;
            samples[1][at] = (now() - middle) / LAYERS;
            check(!kvc_step_commit(step, NULL, 0, &err));
        }
        check(!kvc_seq_destroy(cache, seq, &err));
    }
    *append = median(samples[0], SEQUENCES * SHORT_STEPS);
    *attend = median(samples[1], SEQUENCES * SHORT_STEPS);
    check(!kvc_destroy(cache, &err));
}

static void read_prompt(kvc_cache* cache, kvc_seq seq, int context) {
    float* rows = malloc(sizeof k * context);
    for (int i = 0; i < context * KV_HEADS * DIM; ++i)
        rows[i] = k[i % (KV_HEADS * DIM)];
    kvc_step* step = begin(cache, seq, context);
    for (int layer = 0; layer < LAYERS; ++layer)
        check(!kvc_append(step, layer, rows, sizeof k * context, rows, sizeof k * context, &err));
    check(!kvc_step_commit(step, NULL, 0, &err));
    free(rows);
}

static void decode(kvc_cache* cache, kvc_seq seq) {
    kvc_step* step = begin(cache, seq, 1);
    for (int layer = 0; layer < LAYERS; ++layer) {
        check(!kvc_append(step, layer, k, sizeof k, v, sizeof v, &err));
        check(!kvc_attend(step, layer, q, sizeof q, out, sizeof out, NULL, 0, NULL, &err));
    }
    check(!kvc_step_commit(step, NULL, 0, &err));
}

/* A line on stdin asks for so many steps and is answered with the median of their second half. */
static void answer(int context, int most_steps) {
    kvc_cache* cache = create(context + most_steps);
    kvc_seq seq = kvc_seq_create(cache, NULL, &err);
    check(seq != 0);
    read_prompt(cache, seq, context);
    for (int steps; scanf("%d", &steps) == 1;) {
        for (int i = 0; i < steps && i < MAX_STEPS; ++i) {
            double from = now();
            decode(cache, seq);
            samples[0][i] = (now() - from) / 1000;
        }
        printf("%.2f\n", median(samples[0] + steps / 2, steps - steps / 2));
        fflush(stdout);
    }
    check(!kvc_destroy(cache, &err));
    printf("{}\n");
}

int main(int argc, char** argv) {
    if (argc != 3 || atoi(argv[2]) > MAX_STEPS) return fprintf(stderr, "usage: ffi CONTEXT MOST_STEPS\n"), 2;
    fill(k, KV_HEADS * DIM);
    fill(v, KV_HEADS * DIM);
    fill(q, Q_HEADS * DIM);
    double append, attend, no_op = no_op_ns();
    calls_ns(&append, &attend);
    printf("{\"noop_ns\": %.2f, \"append_ns\": %.1f, \"attend_ns\": %.1f}\n", no_op, append, attend);
    fflush(stdout);
    answer(atoi(argv[1]), atoi(argv[2]));
    return 0;
}

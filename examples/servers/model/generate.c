/* Greedy text of one prompt: generate --model DIR [--mode CODEC] [--policy POLICY] [--max-tokens N] [--threads N] < prompt
 *
 * It is the reference for every server: the same prompt and mode give the same text there, whatever else runs beside it.
 * docs/SERVERS.md, "Text", says what that rests on. */
#include <kvc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "smollm.h"

enum { chunk = 256, prompt_bytes_most = 1 << 20 };

typedef struct arguments {
    const char *model, *mode, *policy;
    int64_t max_tokens, threads;
} arguments;

typedef struct run {
    smollm* model;
    smollm_shape shape;
    kvc_cache* cache;
    kvc_seq seq;
    int64_t length;
    float *x, *q, *k, *v, *attended;
} run;

static void fail(const char* what, const char* why) {
    fprintf(stderr, "generate: %s: %s\n", what, why);
    exit(1);
}

static arguments parse(int count, char** words) {
    arguments out = {NULL, "int4", "", 64, 1};
    for (int i = 1; i < count; i += 2) {
        const char* value = i + 1 < count ? words[i + 1] : NULL;
        if (!value) fail(words[i], "a value is missing");
        if (!strcmp(words[i], "--model"))
            out.model = value;
        else if (!strcmp(words[i], "--mode"))
            out.mode = value;
        else if (!strcmp(words[i], "--policy"))
            out.policy = value;
        else if (!strcmp(words[i], "--max-tokens"))
            out.max_tokens = atoll(value);
        else if (!strcmp(words[i], "--threads"))
            out.threads = atoll(value);
        else
            fail(words[i], "not an option");
    }
    if (!out.model) fail("--model", "is required");
    if (out.max_tokens < 1 || out.threads < 1) fail("--max-tokens, --threads", "must be at least 1");
    return out;
}

static float* floats(int64_t n) {
    float* out = malloc((size_t)n * sizeof *out);
    if (!out) fail("host", "no memory");
    return out;
}

static void start(run* self, const arguments* given, int64_t prompt, int64_t tokens) {
    kvc_error err = {.struct_size = sizeof err};
    char message[256] = "";
    self->model = smollm_open(given->model, given->threads - 1, message, sizeof message);
    if (!self->model) fail(given->model, message);
    smollm_shape_get(self->model, &self->shape);
    const smollm_shape* shape = &self->shape;
    if (tokens > shape->context_tokens) fail("prompt", "with --max-tokens it is longer than the model's context");
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = shape->layers, options.q_heads = shape->q_heads, options.kv_heads = shape->kv_heads,
    options.k_dim = shape->head_dim;
    options.arena_tokens = tokens, options.arena_growth = 1, options.threads = given->threads - 1;
    options.context_tokens = shape->context_tokens;
    if (snprintf(options.codec, sizeof options.codec, "%s", given->mode) >= (int)sizeof options.codec) fail("--mode", "too long");
    if (snprintf(options.policy, sizeof options.policy, "%s", given->policy) >= (int)sizeof options.policy)
        fail("--policy", "too long");
    self->cache = kvc_create(&options, NULL, 0, &err);
    if (!self->cache) fail("kvc_create", err.message);
    kvc_seq_options prompted;
    kvc_seq_options_init(&prompted, sizeof prompted);
    prompted.prompt_length = prompt;
    self->seq = kvc_seq_create(self->cache, &prompted, &err);
    if (!self->seq) fail("kvc_seq_create", err.message);
    const int64_t dim = shape->head_dim;
    self->x = floats(chunk * shape->width), self->q = floats(chunk * shape->q_heads * dim),
    self->attended = floats(chunk * shape->q_heads * dim);
    self->k = floats(chunk * shape->kv_heads * dim), self->v = floats(chunk * shape->kv_heads * dim);
}

/* One step of n tokens; returns the token that follows them. */
static int64_t forward(run* self, const int64_t* tokens, int64_t n) {
    kvc_error err = {.struct_size = sizeof err};
    const int64_t dim = self->shape.head_dim, q_bytes = n * self->shape.q_heads * dim * 4,
                  kv_bytes = n * self->shape.kv_heads * dim * 4;
    int64_t positions[chunk], last = n - 1, chosen = 0;
    for (int64_t i = 0; i < n; i++)
        positions[i] = self->length + i;
    kvc_step* step = kvc_step_begin(self->cache, &self->seq, &n, 1, NULL, 0, NULL, &err);
    if (!step) fail("kvc_step_begin", err.message);
    if (smollm_embed(self->model, tokens, n, self->x)) fail("smollm_embed", "refused");
    for (int64_t layer = 0; layer < self->shape.layers; layer++) {
        if (smollm_project(self->model, layer, self->x, positions, n, self->q, self->k, self->v)) fail("smollm_project", "refused");
        if (kvc_append(step, layer, self->k, kv_bytes, self->v, kv_bytes, &err) ||
            kvc_attend(step, layer, self->q, q_bytes, self->attended, q_bytes, NULL, 0, NULL, &err)) {
            fail("kvc", err.message);
        }
        if (smollm_mix(self->model, layer, self->x, self->attended, n)) fail("smollm_mix", "refused");
    }
    if (kvc_step_commit(step, NULL, 0, &err)) fail("kvc_step_commit", err.message);
    if (smollm_choose(self->model, self->x, &last, 1, &chosen)) fail("smollm_choose", "refused");
    self->length += n;
    return chosen;
}

/* Tokens of the next step of a prompt: no step crosses a boundary of the policy or of a ladder. */
static int64_t step_tokens(const run* self, int64_t left) {
    int64_t limit = 0;
    kvc_error err = {.struct_size = sizeof err};
    if (kvc_seq_step_limit(self->cache, self->seq, &limit, &err)) fail("kvc_seq_step_limit", err.message);
    if (limit > chunk) limit = chunk;
    return left < limit ? left : limit;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void write_text(const run* self, const int64_t* prompt, int64_t n, int64_t max_tokens) {
    int64_t token = 0, written = 0;
    uint8_t pending[8] = {0};
    char text[SMOLLM_TEXT_BYTES];
    const double began = seconds();
    for (int64_t at = 0, count; at < n; at += count) {
        count = step_tokens(self, n - at);
        token = forward((run*)self, prompt + at, count);
    }
    const double read = seconds();
    for (; token != self->shape.end_token; token = forward((run*)self, &token, 1)) {
        const int64_t bytes = smollm_text(self->model, token, pending, text, sizeof text);
        fwrite(text, 1, (size_t)(bytes > 0 ? bytes : 0), stdout);
        if (++written == max_tokens) break;
    }
    const int64_t bytes = smollm_text(self->model, -1, pending, text, sizeof text);
    fwrite(text, 1, (size_t)(bytes > 0 ? bytes : 0), stdout);
    const double wrote = seconds();
    fprintf(stderr, "%lld tokens of prompt at %.0f/s, %lld of text at %.1f/s, finish_reason %s\n", (long long)n,
            (double)n / (read - began), (long long)written, (double)written / (wrote - read),
            token == self->shape.end_token ? "stop" : "length");
}

int main(int count, char** words) {
    const arguments given = parse(count, words);
    char* prompt = malloc(prompt_bytes_most);
    int64_t* tokens = malloc(prompt_bytes_most * sizeof *tokens);
    if (!prompt || !tokens) fail("host", "no memory");
    const int64_t bytes = (int64_t)fread(prompt, 1, prompt_bytes_most, stdin);
    char message[256] = "";
    smollm* model = smollm_open(given.model, 0, message, sizeof message);
    if (!model) fail(given.model, message);
    const int64_t n = smollm_encode(model, prompt, bytes, tokens, prompt_bytes_most);
    smollm_close(model);
    if (n < 1) fail("prompt", "is empty");
    run self = {0};
    start(&self, &given, n, n + given.max_tokens);
    write_text(&self, tokens, n, given.max_tokens);
    kvc_error err = {.struct_size = sizeof err};
    if (kvc_destroy(self.cache, &err)) fail("kvc_destroy", err.message);
    smollm_close(self.model);
    free(prompt), free(tokens), free(self.x), free(self.q), free(self.k), free(self.v), free(self.attended);
    return 0;
}

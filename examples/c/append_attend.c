/* Append and attend: a prompt read in one step, then tokens decoded one by one, for a model of two layers. */
#include "example.h"

enum { layers = 2, kv_heads = 2, q_heads = 8, dim = 64, prompt = 500, decoded = 20 };

/* One step of a model: each layer stores its keys and values and attends to everything so far. */
static void forward(kvc_cache* cache, kvc_seq seq, int64_t tokens, uint32_t seed) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, NULL, 0, NULL, &err);
    TRY(step);
    for (int64_t layer = 0; layer < layers; layer++) {
        const int64_t kv_count = tokens * kv_heads * dim, q_count = tokens * q_heads * dim;
        float* k = example_numbers(kv_count, seed + 1);
        float* v = example_numbers(kv_count, seed + 2);
        float* q = example_numbers(q_count, seed + 3);
        float* out = malloc((size_t)q_count * sizeof *out);
        if (!out) exit(1);
        OK(kvc_append(step, layer, k, kv_count * 4, v, kv_count * 4, &err));
        OK(kvc_attend(step, layer, q, q_count * 4, out, q_count * 4, NULL, 0, NULL, &err));
        free(k), free(v), free(q), free(out);
    }
    OK(kvc_step_commit(step, NULL, 0, &err));
}

int main(void) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = layers;
    options.kv_heads = kv_heads;
    options.q_heads = q_heads;
    options.k_dim = dim;
    options.arena_tokens = 1024;
    options.threads = 1;
    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    TRY(cache);

    kvc_seq_options prompted;
    kvc_seq_options_init(&prompted, sizeof prompted);
    prompted.prompt_length = prompt; /* those queries take the prompt kernels */
    kvc_seq seq = kvc_seq_create(cache, &prompted, &err);
    TRY(seq);
    forward(cache, seq, prompt, 1);
    for (uint32_t i = 0; i < decoded; i++)
        forward(cache, seq, 1, 100 + i);

    int64_t length = 0;
    kvc_seq_stats stats = {.struct_size = sizeof stats};
    OK(kvc_seq_length(cache, seq, &length, &err));
    OK(kvc_seq_stats_get(cache, seq, &stats, &err));
    printf("%lld tokens in %lld bytes; as plain 16-bit numbers: %lld\n", (long long)length, (long long)stats.record_bytes,
           (long long)stats.fp16_bytes);
    OK(kvc_destroy(cache, &err));
    return length == prompt + decoded ? 0 : 1;
}

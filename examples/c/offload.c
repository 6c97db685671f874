/* Offload: an idle conversation gives its arena back, waits in host memory or in a file, and goes on where it was. */
#include "example.h"

enum { kv_heads = 2, dim = 64, bytes_per_token = kv_heads * dim * 4 };

static void extend(kvc_cache* cache, kvc_seq seq, int64_t tokens, uint32_t seed, float* out) {
    kvc_error err = {.struct_size = sizeof err};
    float* x = example_numbers(tokens * kv_heads * dim, seed);
    float* all = malloc((size_t)tokens * bytes_per_token);
    TRY(all);
    const int64_t bytes = tokens * bytes_per_token;
    kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, NULL, 0, NULL, &err);
    TRY(step);
    OK(kvc_append(step, 0, x, bytes, x, bytes, &err));
    OK(kvc_attend(step, 0, x, bytes, all, bytes, NULL, 0, NULL, &err));
    OK(kvc_step_commit(step, NULL, 0, &err));
    for (int i = 0; out && i < kv_heads * dim; i++)
        out[i] = all[(tokens - 1) * kv_heads * dim + i];
    free(all);
    free(x);
}

static int64_t used_bytes(kvc_cache* cache) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_stats stats = {.struct_size = sizeof stats};
    OK(kvc_stats_get(cache, &stats, &err));
    return stats.record_bytes;
}

int main(int n_arguments, char** arguments) {
    const char* path = n_arguments > 1 ? arguments[1] : "offload_example.kvcs";
    kvc_error err = {.struct_size = sizeof err};
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1;
    options.kv_heads = kv_heads;
    options.k_dim = dim;
    options.arena_bytes = 4 << 20;
    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    TRY(cache);
    kvc_seq chat = kvc_seq_create(cache, NULL, &err), twin = kvc_seq_create(cache, NULL, &err);
    TRY(chat && twin);
    extend(cache, chat, 2000, 1, NULL);
    extend(cache, twin, 2000, 1, NULL);
    const int64_t busy = used_bytes(cache);

    /* To host memory: ask for the size, export, destroy. */
    int64_t size = 0;
    OK(kvc_snapshot_export(cache, &chat, 1, NULL, 0, &size, &err));
    void* away = malloc((size_t)size);
    TRY(away);
    OK(kvc_snapshot_export(cache, &chat, 1, away, size, &size, &err));
    OK(kvc_seq_destroy(cache, chat, &err));
    const int64_t idle = used_bytes(cache);
    OK(kvc_snapshot_import(cache, away, size, &chat, 1, NULL, &err));
    free(away);

    /* To a file, which a later process could load as well. */
    OK(kvc_snapshot_save(cache, &chat, 1, path, &err));
    OK(kvc_seq_destroy(cache, chat, &err));
    OK(kvc_snapshot_load(cache, path, &chat, 1, NULL, &err));
    remove(path);

    float after[kv_heads * dim], expected[kv_heads * dim];
    extend(cache, chat, 5, 9, after);
    extend(cache, twin, 5, 9, expected);
    printf("two conversations: %lld bytes; one of them away, in %lld: %lld\n", (long long)busy, (long long)size, (long long)idle);
    for (int i = 0; i < kv_heads * dim; i++) {
        if (after[i] != expected[i]) return 1;
    }
    OK(kvc_destroy(cache, &err));
    return idle * 2 == busy ? 0 : 1;
}

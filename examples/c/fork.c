/* Fork: one prompt, three continuations that share its pages, and a speculative step of which a part is accepted. */
#include "example.h"

enum { kv_heads = 2, dim = 64, prompt = 1000 };

static void extend(kvc_cache* cache, kvc_seq seq, int64_t tokens, const int64_t* accepted, uint32_t seed) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_step_options options;
    kvc_step_options_init(&options, sizeof options);
    options.partial_commit = accepted != NULL;
    float* x = example_numbers(tokens * kv_heads * dim, seed);
    const int64_t bytes = tokens * kv_heads * dim * 4;
    kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, NULL, 0, &options, &err);
    TRY(step);
    OK(kvc_append(step, 0, x, bytes, x, bytes, &err));
    OK(kvc_step_commit(step, accepted, accepted ? 1 : 0, &err));
    free(x);
}

int main(void) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1;
    options.kv_heads = kv_heads;
    options.k_dim = dim;
    options.arena_bytes = 4 << 20;
    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    TRY(cache);
    kvc_seq seq = kvc_seq_create(cache, NULL, &err);
    TRY(seq);
    extend(cache, seq, prompt, NULL, 1);
    kvc_stats before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
    OK(kvc_stats_get(cache, &before, &err));

    for (uint32_t i = 0; i < 3; i++) {
        const kvc_seq branch = kvc_seq_fork(cache, seq, prompt, KVC_CUT_EXACT, &err);
        TRY(branch);
        extend(cache, branch, 10, NULL, 10 + i);
        const int64_t accepted = 2; /* of 4 drafted tokens */
        int64_t length = 0;
        extend(cache, branch, 4, &accepted, 20 + i);
        OK(kvc_seq_length(cache, branch, &length, &err));
        if (length != prompt + 10 + accepted) return 1;
    }
    OK(kvc_stats_get(cache, &after, &err));
    printf("one prompt: %lld bytes; with three branches: %lld\n", (long long)before.record_bytes, (long long)after.record_bytes);
    OK(kvc_destroy(cache, &err));
    return after.record_bytes < 2 * before.record_bytes ? 0 : 1;
}

/* Prefix index: a conversation that runs only what is new in each turn, and a second tenant who shares nothing with it. */
#include <string.h>

#include "example.h"

enum { kv_heads = 2, dim = 64, most = 4096 };

/* What a model would compute for the tokens that the sequence does not hold yet: here numbers that stand for it. */
static void run(kvc_cache* cache, kvc_seq seq, const int64_t* tokens, int64_t from, int64_t n) {
    kvc_error err = {.struct_size = sizeof err};
    int64_t count = n - from;
    const int64_t row = kv_heads * dim, bytes = count * row * 4;
    float* x = malloc((size_t)bytes);
    if (!x) exit(1);
    for (int64_t t = 0; t < count; t++) {
        float* numbers = example_numbers(row, (uint32_t)tokens[from + t]);
        memcpy(x + t * row, numbers, (size_t)row * 4);
        free(numbers);
    }
    kvc_step* step = kvc_step_begin(cache, &seq, &count, 1, NULL, 0, NULL, &err);
    TRY(step);
    OK(kvc_append(step, 0, x, bytes, x, bytes, &err));
    OK(kvc_step_commit(step, NULL, 0, &err));
    free(x);
}

int main(void) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1;
    options.kv_heads = kv_heads;
    options.k_dim = dim;
    options.arena_bytes = 16 << 20;
    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    TRY(cache);

    const char salt[] = "tenant 1";
    int64_t tokens[most], length = 0, computed = 0;
    const int64_t questions[] = {900, 30, 250, 12}, answers[] = {200, 80, 5, 300};
    for (int turn = 0; turn < 4; turn++) {
        for (int64_t end = length + questions[turn]; length < end; length++)
            tokens[length] = (length * 7919 + turn) % 50000; /* the user's words */
        kvc_prefix_hit hit = {.struct_size = sizeof hit};
        const kvc_seq seq = kvc_prefix_lookup(cache, tokens, length, salt, sizeof salt, NULL, &hit, &err);
        TRY(seq);
        printf("turn %d: %lld of %lld tokens are there already\n", turn + 1, (long long)hit.tokens, (long long)length);
        if (hit.tokens != length - questions[turn]) return 1;
        const int64_t from = hit.tokens;
        for (int64_t end = length + answers[turn]; length < end; length++)
            tokens[length] = (length * 104729 + turn) % 50000; /* the model's */
        run(cache, seq, tokens, from, length);
        computed += length - from;
        OK(kvc_prefix_publish(cache, seq, tokens, length, salt, sizeof salt, NULL, &err));
        OK(kvc_seq_destroy(cache, seq, &err)); /* the entry keeps what it shares */
    }
    kvc_prefix_hit other = {.struct_size = sizeof other};
    TRY(kvc_prefix_lookup(cache, tokens, length, "tenant 2", 8, NULL, &other, &err));
    kvc_prefix_stats stats = {.struct_size = sizeof stats};
    OK(kvc_prefix_stats_get(cache, &stats, &err));
    printf("%lld tokens computed for a conversation of %lld; entries: %lld, %lld bytes\n", (long long)computed, (long long)length,
           (long long)stats.entries, (long long)stats.record_bytes);
    OK(kvc_destroy(cache, &err));
    return computed == length && other.tokens == 0 && other.shared == 0 && stats.hits == 3 ? 0 : 1;
}

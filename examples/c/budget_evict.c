/* Budget and evict: a plan says what fits; a sequence then lives on within a budget of tokens (StreamingLLM: sinks and the newest). */
#include "example.h"

enum { kv_heads = 2, dim = 64, budget = 512, chunk = 128 };

int main(void) {
    kvc_error err = {.struct_size = sizeof err};
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1;
    options.kv_heads = kv_heads;
    options.k_dim = dim;
    options.arena_bytes = 1 << 20;

    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = budget + chunk;
    request.step_tokens = chunk;
    request.budget_bytes = options.arena_bytes;
    kvc_plan plan = {.struct_size = sizeof plan};
    OK(kvc_plan_compute(&options, NULL, 0, &request, &plan, &err));
    printf("1 MiB holds %lld tokens of one sequence, or %lld sequences of %lld tokens\n", (long long)plan.max_tokens,
           (long long)plan.max_sequences, (long long)request.tokens);

    kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
    TRY(cache);
    kvc_seq seq = kvc_seq_create(cache, NULL, &err);
    TRY(seq);
    kvc_evict_options evict;
    kvc_evict_options_init(&evict, sizeof evict);
    evict.budget = budget;
    int64_t evicted = 0, live = 0, tokens = chunk;
    const int64_t bytes = chunk * kv_heads * dim * 4;
    for (uint32_t turn = 0; turn < 100; turn++) { /* 12,800 tokens: many times what the arena holds */
        float* x = example_numbers(chunk * kv_heads * dim, turn);
        kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, NULL, 0, NULL, &err);
        TRY(step);
        OK(kvc_append(step, 0, x, bytes, x, bytes, &err));
        OK(kvc_step_commit(step, NULL, 0, &err));
        kvc_evict_report report = {.struct_size = sizeof report};
        OK(kvc_evict(cache, seq, NULL, 0, &evict, &report, &err));
        evicted += report.tokens_evicted;
        free(x);
    }
    OK(kvc_seq_live(cache, seq, 0, 0, &live, &err));
    printf("%lld tokens live, %lld evicted (summed over %d heads)\n", (long long)live, (long long)evicted, kv_heads);
    OK(kvc_destroy(cache, &err));
    return live == budget && evicted == (100 * chunk - budget) * kv_heads ? 0 : 1;
}

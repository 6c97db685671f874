#include "tests/capi/fixture.h"

namespace capi_tests {

SmallCache::SmallCache(const kvc_options& options) : k(4096), v(4096), q(8192), out(8192), lse(256) {
    cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    seq = kvc_seq_create(cache, nullptr, &error);
    REQUIRE(seq != 0);
    for (size_t i = 0; i < k.size(); ++i)
        k[i] = static_cast<float>(i % 17) - 8, v[i] = static_cast<float>(i % 13) - 6;
    for (size_t i = 0; i < q.size(); ++i)
        q[i] = static_cast<float>(i % 5) - 2;
    kvc_step* step = begin(5);
    append_all(step, 5);
    REQUIRE(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
}

SmallCache::~SmallCache() { kvc_destroy(cache, nullptr); }

kvc_step* SmallCache::begin(int64_t tokens) {
    kvc_step* step = kvc_step_begin(cache, &seq, &tokens, 1, nullptr, 0, nullptr, &error);
    REQUIRE_MESSAGE(step != nullptr, error.message);
    return step;
}

void SmallCache::append_all(kvc_step* step, int64_t tokens) {
    const int64_t bytes = tokens * 2 * 32 * 4;
    for (int64_t layer = 0; layer < 2; ++layer)
        REQUIRE(kvc_append(step, layer, k.data(), bytes, v.data(), bytes, &error) == KVC_OK);
}

namespace {

std::vector<Call> snapshot_calls() {
    static thread_local int64_t number = 0;
    static thread_local int64_t numbers[64];
    static thread_local uint8_t bytes[64];
    return {
        {"snapshot_export", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_snapshot_export(c, &s, 1, nullptr, 0, &number, e); }},
        {"snapshot_save", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) {
             const kvc_status status = kvc_snapshot_save(c, &s, 1, "/dev/null/none", e);  // valid calls fail at the file alone
             return status == KVC_E_IO ? KVC_OK : status;
         }},
        {"snapshot_import", false,
         [](kvc_cache* c, kvc_seq, kvc_error* e) {
             const kvc_status status = kvc_snapshot_import(c, bytes, 64, numbers, 64, &number, e);
             return status == KVC_E_CORRUPT ? KVC_OK : status;
         }},
        {"snapshot_load", false,
         [](kvc_cache* c, kvc_seq, kvc_error* e) {
             const kvc_status status = kvc_snapshot_load(c, "/dev/null/none", numbers, 64, &number, e);
             return status == KVC_E_IO ? KVC_OK : status;
         }},
    };
}

std::vector<Call> prefix_calls() {
    const auto made = [](int64_t handle, kvc_error* error) { return handle ? KVC_OK : status_of(error); };
    return {
        {"prefix_publish", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) {
             const int64_t tokens[5] = {1, 2, 3, 4, 5};
             return kvc_prefix_publish(c, s, tokens, 5, "salt", 4, nullptr, e);
         }},
        {"prefix_lookup", false,
         [made](kvc_cache* c, kvc_seq, kvc_error* e) {
             const int64_t tokens[6] = {1, 2, 3, 4, 5, 6};
             kvc_prefix_hit hit{};
             hit.struct_size = sizeof hit;
             return made(kvc_prefix_lookup(c, tokens, 6, "salt", 4, nullptr, &hit, e), e);
         }},
        {"prefix_remove", false,
         [](kvc_cache* c, kvc_seq, kvc_error* e) {
             int64_t removed = 0;
             return kvc_prefix_remove(c, nullptr, 0, "salt", 4, &removed, e);
         }},
        {"prefix_clear", false, [](kvc_cache* c, kvc_seq, kvc_error* e) { return kvc_prefix_clear(c, e); }},
        {"prefix_budget_set", false, [](kvc_cache* c, kvc_seq, kvc_error* e) { return kvc_prefix_budget_set(c, 1 << 20, e); }},
        {"prefix_stats_get", false,
         [](kvc_cache* c, kvc_seq, kvc_error* e) {
             kvc_prefix_stats stats{};
             stats.struct_size = sizeof stats;
             return kvc_prefix_stats_get(c, &stats, e);
         }},
    };
}

}  // namespace

std::vector<Call> cache_calls() {
    // Buffers of the calling thread's own: the calls may run on several threads at once.
    static thread_local int64_t number = 0;
    static thread_local int64_t numbers[64];
    static thread_local float floats[4096];
    static thread_local uint8_t bytes[64];
    const auto made = [](int64_t handle, kvc_error* error) { return handle ? KVC_OK : status_of(error); };
    std::vector<Call> calls = {
        {"sink_logits_set", false, [](kvc_cache* c, kvc_seq, kvc_error* e) { return kvc_sink_logits_set(c, 0, floats, 4, e); }},
        {"rope_frequencies_set", false,
         [](kvc_cache* c, kvc_seq, kvc_error* e) {
             const double frequency = 1;
             return kvc_rope_frequencies_set(c, 0, &frequency, 1, e);
         }},
        {"seq_create", false, [made](kvc_cache* c, kvc_seq, kvc_error* e) { return made(kvc_seq_create(c, nullptr, e), e); }},
        {"stats_get", false,
         [](kvc_cache* c, kvc_seq, kvc_error* e) {
             kvc_stats stats{};
             stats.struct_size = sizeof stats;
             return kvc_stats_get(c, &stats, e);
         }},
        {"seq_fork", true, [made](kvc_cache* c, kvc_seq s, kvc_error* e) { return made(kvc_seq_fork(c, s, 5, KVC_CUT_EXACT, e), e); }},
        {"seq_truncate", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_truncate(c, s, 5, KVC_CUT_EXACT, e); }},
        {"seq_length", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_length(c, s, &number, e); }},
        {"seq_exact_floor", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_exact_floor(c, s, &number, e); }},
        {"seq_live", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_live(c, s, 0, 0, &number, e); }},
        {"seq_positions", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_positions(c, s, 0, 0, numbers, 64, nullptr, e); }},
        {"seq_prompt_set", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_prompt_set(c, s, 9, e); }},
        {"seq_budget_set", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_budget_set(c, s, 400, e); }},
        {"seq_step_limit", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_step_limit(c, s, &number, e); }},
        {"step_begin", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) {
             const int64_t count = 1;
             kvc_step* step = kvc_step_begin(c, &s, &count, 1, nullptr, 0, nullptr, e);
             if (step) kvc_step_abort(step, nullptr);
             return step ? KVC_OK : status_of(e);
         }},
        {"evict", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) {
             kvc_evict_options options;
             kvc_evict_options_init(&options, sizeof options);
             options.budget = 5;
             return kvc_evict(c, s, nullptr, 0, &options, nullptr, e);
         }},
        {"evict_keep", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_evict_keep(c, s, numbers, 0, nullptr, nullptr, e); }},
        {"seq_read", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_read(c, s, 0, 0, KVC_KEYS, 0, 1, floats, 128, e); }},
        {"seq_read_codes", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_read_codes(c, s, 0, 0, KVC_KEYS, bytes, 64, &number, e); }},
        {"seq_read_mass", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_read_mass(c, s, 0, 0, numbers, 64, nullptr, e); }},
        {"seq_stats_get", true,
         [](kvc_cache* c, kvc_seq s, kvc_error* e) {
             kvc_seq_stats stats{};
             stats.struct_size = sizeof stats;
             return kvc_seq_stats_get(c, s, &stats, e);
         }},
        {"seq_destroy", true, [](kvc_cache* c, kvc_seq s, kvc_error* e) { return kvc_seq_destroy(c, s, e); }},
        {"destroy", false, [](kvc_cache* c, kvc_seq, kvc_error* e) { return kvc_destroy(c, e); }},
    };
    const std::vector<Call> snapshots = snapshot_calls();
    calls.insert(calls.end() - 2, snapshots.begin(), snapshots.end());  // before those that end what the others use
    const std::vector<Call> prefixes = prefix_calls();
    calls.insert(calls.begin(), prefixes.begin(), prefixes.end());
    return calls;
}

std::vector<StepCall> step_calls() {
    const int64_t kv = 2 * 32 * 4, q = 4 * 32 * 4;
    return {
        {"append", [=](kvc_step* s, SmallCache& c, kvc_error* e) { return kvc_append(s, 0, c.k.data(), kv, c.v.data(), kv, e); }},
        {"attend", [=](kvc_step* s, SmallCache& c,
                       kvc_error* e) { return kvc_attend(s, 0, c.q.data(), q, c.out.data(), q, c.lse.data(), 16, nullptr, e); }},
        {"step_commit", [](kvc_step* s, SmallCache&, kvc_error* e) { return kvc_step_commit(s, nullptr, 0, e); }},
        {"step_abort", [](kvc_step* s, SmallCache&, kvc_error* e) { return kvc_step_abort(s, e); }},
    };
}

}  // namespace capi_tests

// Every parameter out of its range is refused with a status and a message that names it; nothing changes.
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/capi/fixture.h"

using namespace capi_tests;

namespace {

struct OptionCase {
    const char* names;  // what the message must say
    std::function<void(kvc_options&)> spoil;
    kvc_status status = KVC_E_ARGUMENT;
    kvc_status planned = status;  // what kvc_plan_compute answers: it alone needs no arena
};

void by_bytes(kvc_options& options, int64_t bytes) {
    options.arena_tokens = options.arena_sequences = 0;
    options.arena_bytes = bytes;
}

kvc_status plan(const kvc_options& options, const kvc_layer* layers, int64_t n_layers, kvc_error* error) {
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = 100;
    kvc_plan out{};
    out.struct_size = sizeof out;
    return kvc_plan_compute(&options, layers, n_layers, &request, &out, error);
}

void* allocate_nothing(void*, int64_t, int64_t) { return nullptr; }
void release_nothing(void*, void*, int64_t) {}

std::vector<OptionCase> option_cases() {
    return {
        {"layers", [](kvc_options& o) { o.layers = 0; }},
        {"layers", [](kvc_options& o) { o.layers = -1; }},
        {"layers", [](kvc_options& o) { o.layers = 4097; }},
        {"layers", [](kvc_options& o) { o.layers = INT64_MAX; }},
        {"kv_heads", [](kvc_options& o) { o.kv_heads = 0; }},
        {"kv_heads", [](kvc_options& o) { o.kv_heads = 1025, o.q_heads = 0; }},
        {"kv_heads", [](kvc_options& o) { o.kv_heads = INT64_MIN; }},
        {"q_heads", [](kvc_options& o) { o.q_heads = 3; }},
        {"q_heads", [](kvc_options& o) { o.q_heads = 34; }},
        {"q_heads", [](kvc_options& o) { o.q_heads = -2; }},
        {"q_heads", [](kvc_options& o) { o.q_heads = 1; }},
        {"k_dim", [](kvc_options& o) { o.k_dim = 0; }},
        {"k_dim", [](kvc_options& o) { o.k_dim = 24; }},
        {"k_dim", [](kvc_options& o) { o.k_dim = 272; }},
        {"k_dim", [](kvc_options& o) { o.k_dim = -16; }},
        {"v_dim", [](kvc_options& o) { o.v_dim = 8; }},
        {"v_dim", [](kvc_options& o) { o.v_dim = 512; }},
        {"sliding_window", [](kvc_options& o) { o.sliding_window = -2; }},
        {"sliding_window", [](kvc_options& o) { o.sliding_window = INT64_MAX; }},
        {"codec", [](kvc_options& o) { std::strcpy(o.codec, "int9"); }},
        {"codec", [](kvc_options& o) { std::memset(o.codec, 'a', sizeof o.codec); }},
        {"target", [](kvc_options& o) { std::strcpy(o.target, "abacus"); }, KVC_E_UNSUPPORTED},
        {"target", [](kvc_options& o) { std::memset(o.target, 'a', sizeof o.target); }},
        {"arena: give arena_bytes, arena_tokens", [](kvc_options& o) { o.arena_tokens = o.arena_sequences = 0; }, KVC_E_ARGUMENT,
         KVC_OK},
        {"arena_tokens -1 ", [](kvc_options& o) { o.arena_tokens = -1; }},
        {"arena_tokens 1099511627777,", [](kvc_options& o) { o.arena_tokens = (int64_t{1} << 40) + 1; }},
        {"2199021158400", [](kvc_options& o) { o.arena_tokens = int64_t{1} << 40; }},
        {"arena_bytes -1 ", [](kvc_options& o) { by_bytes(o, -1); }},
        {"arena_bytes 100 is less than one slab of 65536", [](kvc_options& o) { by_bytes(o, 100); }},
        {"more than the 2199021158400", [](kvc_options& o) { by_bytes(o, INT64_MAX); }},
        {"more than the 2199021158400", [](kvc_options& o) { by_bytes(o, INT64_MAX), o.arena_growth = 1; }},
        {"arena_bytes 65536 and arena_tokens 1024", [](kvc_options& o) { o.arena_bytes = 65536; }},
        {"arena_sequences -1 ", [](kvc_options& o) { o.arena_sequences = -1; }},
        {"arena_sequences -1 ", [](kvc_options& o) { by_bytes(o, 1 << 20), o.arena_sequences = -1; }},
        {"arena_sequences 4 ", [](kvc_options& o) { by_bytes(o, 1 << 20), o.arena_sequences = 4; }},
        {"arena_sequences 16777217", [](kvc_options& o) { o.arena_sequences = (1 << 24) + 1; }},
        {"arena_block", [](kvc_options& o) { o.arena_block = &o; }},
        {"rope_theta -1 of layer 0", [](kvc_options& o) { o.keys = KVC_KEYS_BEFORE_ROPE, o.rope_theta = -1; }},
        {"rope_theta 1e-310 of layer 0: frequency",
         [](kvc_options& o) { o.positions = KVC_POSITIONS_IN_CACHE, o.rope_theta = 1e-310; }},
        {"struct_size 70000 ", [](kvc_options& o) { o.struct_size = 70000; }},
        {"arena_growth", [](kvc_options& o) { o.arena_growth = 2; }},
        {"spare_pages", [](kvc_options& o) { o.spare_pages = -1; }},
        {"spare_pages", [](kvc_options& o) { o.spare_pages = 1 << 20; }},
        {"threads", [](kvc_options& o) { o.threads = -1; }},
        {"threads", [](kvc_options& o) { o.threads = 1 << 20; }},
        {"saturate", [](kvc_options& o) { o.saturate = -1; }},
        {"device 3 is not", [](kvc_options& o) { o.device = 3; }},
        {"device_ordinal -1", [](kvc_options& o) { o.device_ordinal = -1; }},
        {"device_ordinal 1", [](kvc_options& o) { o.device_ordinal = 1; }},
        {"policy \"forget\"", [](kvc_options& o) { std::strcpy(o.policy, "forget:20%"); }},
        {"policy h2o: budget", [](kvc_options& o) { std::strcpy(o.policy, "h2o:budget=-1"); }},
        {"policy h2o: the budget of layer 0 is 194 tokens, below the 195", [](kvc_options& o) { std::strcpy(o.policy, "h2o:194"); }},
        {"policy h2o: recent 500", [](kvc_options& o) { std::strcpy(o.policy, "h2o:400,recent=500"); }},
        {"policy", [](kvc_options& o) { std::memset(o.policy, 'a', sizeof o.policy); }},
        {"in-cache", [](kvc_options& o) { std::strcpy(o.policy, "h2o:400"), o.positions = KVC_POSITIONS_IN_CACHE; }, KVC_E_UNSUPPORTED},
        {"context_tokens -1", [](kvc_options& o) { o.context_tokens = -1; }},
        {"context_tokens", [](kvc_options& o) { o.context_tokens = INT64_MAX; }},
        {"allocate", [](kvc_options& o) { o.allocate = allocate_nothing; }},
        {"allocate", [](kvc_options& o) { o.release = release_nothing; }},
    };
}

}  // namespace

TEST_CASE("options: each one out of range is refused alike by supports, plan and create, and named") {
    for (const OptionCase& c : option_cases()) {
        CAPTURE(c.names);
        kvc_options options = small_options();
        c.spoil(options);
        kvc_error error = empty_error();
        CHECK(kvc_supports(&options, nullptr, 0, &error) == c.status);
        expect_message(error, c.names);
        kvc_error second = empty_error();
        CHECK(kvc_create(&options, nullptr, 0, &second) == nullptr);
        CHECK(second.status == c.status);
        CHECK(std::string(second.message) == error.message);
        kvc_error third = empty_error();
        CHECK(plan(options, nullptr, 0, &third) == c.planned);
        if (c.planned != KVC_OK) CHECK(std::string(third.message) == error.message);
    }
    kvc_error error = empty_error();
    CHECK(kvc_create(nullptr, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
}

TEST_CASE("options: the number of layers must be that of the array, and each layer is checked") {
    kvc_options options = small_options();
    std::vector<kvc_layer> layers(2);
    for (kvc_layer& layer : layers)
        kvc_layer_init(&layer, sizeof layer);
    CHECK(kvc_supports(&options, layers.data(), 2, nullptr) == KVC_OK);
    kvc_error error = empty_error();
    for (int64_t n : {-1, 1, 3}) {
        CHECK(kvc_supports(&options, layers.data(), n, &error) == KVC_E_ARGUMENT);
        expect_message(error, "n_layers");
    }
    CHECK(kvc_supports(&options, nullptr, 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "n_layers 2");
    CHECK(kvc_supports(&options, layers.data(), 0, &error) == KVC_E_ARGUMENT);
    expect_message(error, "n_layers 0");
    CHECK(plan(options, layers.data(), 0, &error) == KVC_E_ARGUMENT);
    layers[1].reserved = 7;
    CHECK(kvc_supports(&options, layers.data(), 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "layer 1: reserved 7");
    layers[1].reserved = 0;
    layers[1].kv_heads = 5000;
    CHECK(kvc_supports(&options, layers.data(), 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "layer 1");
    layers[1].kv_heads = 0;
    std::strcpy(layers[1].codec, "k=int4.tok.g128,v=f16");  // 128 channels do not divide a head dim of 32
    CHECK(kvc_supports(&options, layers.data(), 2, &error) != KVC_OK);
    std::strcpy(layers[1].codec, "int9");
    CHECK(kvc_supports(&options, layers.data(), 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "layer 1: codec");
    std::memset(layers[1].codec, 'a', sizeof layers[1].codec);
    CHECK(kvc_supports(&options, layers.data(), 2, &error) == KVC_E_ARGUMENT);
    expect_message(error, "codec of layer 1 ");
}

TEST_CASE("options: RoPE bases at the edges give finite frequencies, frequencies that would overflow are refused") {
    kvc_options options = small_options();
    options.positions = KVC_POSITIONS_IN_CACHE;
    for (double theta : {1e-9, 1.0, 10000.0, 1e308}) {
        CAPTURE(theta);
        options.rope_theta = theta;
        CHECK(kvc_supports(&options, nullptr, 0, nullptr) == KVC_OK);
    }
    options.rope_theta = 0;
    kvc_error error = empty_error();
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE(cache != nullptr);
    std::vector<double> frequencies(16, 1.0);
    for (double wrong : {2e9, -2e9, 1e300}) {
        frequencies[3] = wrong;
        CHECK(kvc_rope_frequencies_set(cache, 1, frequencies.data(), 16, &error) == KVC_E_ARGUMENT);
        expect_message(error, "1e+09");
    }
    frequencies[3] = -1e9;
    CHECK(kvc_rope_frequencies_set(cache, 1, frequencies.data(), 16, &error) == KVC_OK);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

TEST_CASE("options: kvc_create takes what the other two promise, at the edges of the arena") {
    kvc_options options = small_options();
    by_bytes(options, 65536);
    for (const int64_t bytes : {int64_t{65535}, int64_t{65536}, int64_t{2199021158400}, int64_t{2199021158401}}) {
        CAPTURE(bytes);
        options.arena_bytes = bytes;
        options.allocate = allocate_nothing, options.release = release_nothing;
        const bool valid = bytes >= 65536 && bytes <= 2199021158400;
        CHECK(kvc_supports(&options, nullptr, 0, nullptr) == (valid ? KVC_OK : KVC_E_ARGUMENT));
        kvc_error error = empty_error();
        CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
        CHECK(error.status == (valid ? KVC_E_NO_MEMORY : KVC_E_ARGUMENT));
    }
    // What fits the largest budget fits an arena of that size.
    options = small_options();
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = 1000, request.budget_bytes = INT64_MAX;
    kvc_plan most{}, out{};
    most.struct_size = out.struct_size = sizeof most;
    REQUIRE(kvc_plan_compute(&options, nullptr, 0, &request, &most, nullptr) == KVC_OK);
    for (const int64_t more : {0, 1}) {
        request.tokens = most.max_tokens + more;
        CHECK(kvc_plan_compute(&options, nullptr, 0, &request, &out, nullptr) == (more ? KVC_E_ARGUMENT : KVC_OK));
        options.arena_tokens = most.max_tokens + more, options.arena_sequences = 1;
        CHECK(kvc_supports(&options, nullptr, 0, nullptr) == (more ? KVC_E_ARGUMENT : KVC_OK));
    }
}

TEST_CASE("options: an allocator that has nothing, and a block that is too small or not aligned") {
    kvc_options options = small_options();
    options.allocate = allocate_nothing, options.release = release_nothing;
    kvc_error error = empty_error();
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_NO_MEMORY);
    options = small_options();
    options.arena_tokens = options.arena_sequences = 0, options.arena_bytes = 1;
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    expect_message(error, "arena_bytes 1 ");
    alignas(128) static unsigned char block[1 << 20];
    options = small_options();
    options.arena_tokens = options.arena_sequences = 0, options.arena_bytes = sizeof block - 128, options.arena_block = block + 1;
    CHECK(kvc_create(&options, nullptr, 0, &error) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    expect_message(error, "arena_block");
    options.arena_block = block;
    kvc_cache* cache = kvc_create(&options, nullptr, 0, &error);
    REQUIRE_MESSAGE(cache != nullptr, error.message);
    CHECK(kvc_destroy(cache, nullptr) == KVC_OK);
}

TEST_CASE("plan: every number out of range") {
    const kvc_options options = small_options();
    const auto refused = [&](const char* name, auto spoil) {
        kvc_plan_request request;
        kvc_plan_request_init(&request, sizeof request);
        request.tokens = 100;
        spoil(request);
        kvc_plan plan{};
        plan.struct_size = sizeof plan;
        kvc_error error = empty_error();
        CHECK(kvc_plan_compute(&options, nullptr, 0, &request, &plan, &error) == KVC_E_ARGUMENT);
        expect_message(error, name);
        CHECK(plan.arena_bytes == 0);
    };
    refused("tokens", [](kvc_plan_request& r) { r.tokens = -1; });
    refused("sequences", [](kvc_plan_request& r) { r.sequences = -1; });
    refused("step_tokens", [](kvc_plan_request& r) { r.step_tokens = -1; });
    refused("budget_bytes", [](kvc_plan_request& r) { r.budget_bytes = -1; });
    refused("partial_commit 3 ", [](kvc_plan_request& r) { r.partial_commit = 3; });
    refused("tokens 9223372036854775807", [](kvc_plan_request& r) { r.tokens = INT64_MAX; });
    refused("sequences 9223372036854775807", [](kvc_plan_request& r) { r.sequences = INT64_MAX; });
    kvc_error error = empty_error();
    kvc_plan plan{};
    plan.struct_size = sizeof plan;
    CHECK(kvc_plan_compute(&options, nullptr, 0, nullptr, &plan, &error) == KVC_E_ARGUMENT);
}

TEST_CASE("sequences: positions, cuts, layers, heads and capacities out of range") {
    SmallCache small;
    kvc_error error = empty_error();
    kvc_seq_options options;
    kvc_seq_options_init(&options, sizeof options);
    for (int64_t wrong : {int64_t{-1}, (int64_t{1} << 53) + 1, INT64_MAX, INT64_MIN}) {
        options.first_position = wrong, options.prompt_length = 0;
        CHECK(kvc_seq_create(small.cache, &options, &error) == 0);
        expect_message(error, "first_position");
        options.first_position = 0, options.prompt_length = wrong;
        CHECK(kvc_seq_create(small.cache, &options, &error) == 0);
        expect_message(error, "prompt_length");
    }
    for (int64_t wrong : {int64_t{-1}, int64_t{6}, INT64_MAX, INT64_MIN}) {
        CAPTURE(wrong);
        CHECK(kvc_seq_truncate(small.cache, small.seq, wrong, KVC_CUT_INEXACT, &error) == KVC_E_RANGE);
        CHECK(kvc_seq_fork(small.cache, small.seq, wrong, KVC_CUT_INEXACT, &error) == 0);
    }
    for (int32_t wrong : {-1, 2, INT32_MAX}) {
        CHECK(kvc_seq_truncate(small.cache, small.seq, 5, wrong, &error) == KVC_E_ARGUMENT);
        expect_message(error, "cut");
        CHECK(kvc_seq_fork(small.cache, small.seq, 5, wrong, &error) == 0);
    }
    int64_t numbers[8];
    float floats[8 * 32];
    for (int64_t wrong : {int64_t{-1}, int64_t{2}, INT64_MAX, INT64_MIN}) {
        CAPTURE(wrong);
        CHECK(kvc_seq_live(small.cache, small.seq, wrong, 0, numbers, &error) == KVC_E_ARGUMENT);
        expect_message(error, "layer");
        CHECK(kvc_seq_live(small.cache, small.seq, 0, wrong, numbers, &error) == KVC_E_ARGUMENT);
        expect_message(error, "head");
        CHECK(kvc_seq_positions(small.cache, small.seq, wrong, 0, numbers, 8, nullptr, &error) == KVC_E_ARGUMENT);
        CHECK(kvc_seq_read(small.cache, small.seq, wrong, 0, KVC_KEYS, 0, 1, floats, sizeof floats, &error) == KVC_E_ARGUMENT);
        CHECK(kvc_seq_read(small.cache, small.seq, 0, wrong, KVC_KEYS, 0, 1, floats, sizeof floats, &error) == KVC_E_ARGUMENT);
        CHECK(kvc_seq_read_mass(small.cache, small.seq, 0, wrong, numbers, 8, nullptr, &error) == KVC_E_ARGUMENT);
        CHECK(kvc_sink_logits_set(small.cache, wrong, floats, 4, &error) == KVC_E_ARGUMENT);
    }
    CHECK(kvc_seq_positions(small.cache, small.seq, 0, 0, numbers, 4, nullptr, &error) == KVC_E_ARGUMENT);
    expect_message(error, "capacity 4");
    CHECK(kvc_seq_positions(small.cache, small.seq, 0, 0, nullptr, 8, nullptr, &error) == KVC_E_ARGUMENT);
    for (auto list : {kvc_seq_positions, kvc_seq_read_counts}) {
        int64_t tokens = -7;
        CHECK(list(small.cache, small.seq, 0, 0, numbers, 4, &tokens, &error) == KVC_E_ARGUMENT);
        CHECK(tokens == -7);
        CHECK(list(small.cache, small.seq, 0, 0, numbers, 8, &tokens, &error) == KVC_OK);
        CHECK(tokens == 5);
    }
    CHECK(kvc_seq_length(small.cache, small.seq, nullptr, &error) == KVC_E_ARGUMENT);
    for (int32_t part : {0, 3, -1}) {
        CHECK(kvc_seq_read(small.cache, small.seq, 0, 0, part, 0, 1, floats, sizeof floats, &error) == KVC_E_ARGUMENT);
        expect_message(error, "part");
    }
    CHECK(kvc_seq_read(small.cache, small.seq, 0, 0, KVC_KEYS, 0, 2, floats, 255, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_seq_read(small.cache, small.seq, 0, 0, KVC_KEYS, 4, 2, floats, sizeof floats, &error) == KVC_E_RANGE);
    CHECK(kvc_seq_read(small.cache, small.seq, 0, 0, KVC_KEYS, -1, 1, floats, sizeof floats, &error) == KVC_E_RANGE);
    CHECK(kvc_seq_read(small.cache, small.seq, 0, 0, KVC_KEYS, 0, INT64_MAX, floats, sizeof floats, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_seq_read(small.cache, small.seq, 0, 0, KVC_KEYS, INT64_MAX, 1, floats, sizeof floats, &error) == KVC_E_RANGE);
    floats[0] = std::numeric_limits<float>::quiet_NaN();
    CHECK(kvc_sink_logits_set(small.cache, 0, floats, 4, &error) == KVC_E_NONFINITE);
    CHECK(kvc_sink_logits_set(small.cache, 0, floats, 3, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_sink_logits_set(small.cache, 0, nullptr, 4, &error) == KVC_E_ARGUMENT);
}

TEST_CASE("steps: counts, numbers, types, strides and flags out of range") {
    SmallCache small;
    kvc_error error = empty_error();
    const auto begin = [&](int64_t n, int64_t count, const kvc_step_options* options) {
        return kvc_step_begin(small.cache, &small.seq, &count, n, nullptr, 0, options, &error);
    };
    for (int64_t wrong : {int64_t{0}, int64_t{-1}, INT64_MAX}) {
        CHECK(begin(wrong, 1, nullptr) == nullptr);
        CHECK(error.status == KVC_E_ARGUMENT);
        expect_message(error, "n ");
    }
    for (int64_t wrong : {int64_t{-1}, INT64_MIN, INT64_MAX}) {
        CHECK(begin(1, wrong, nullptr) == nullptr);
        CHECK(error.status == KVC_E_ARGUMENT);
        expect_message(error, "count");
    }
    const int64_t count = 1;
    CHECK(kvc_step_begin(small.cache, nullptr, &count, 1, nullptr, 0, nullptr, &error) == nullptr);
    CHECK(kvc_step_begin(small.cache, &small.seq, nullptr, 1, nullptr, 0, nullptr, &error) == nullptr);
    CHECK(kvc_step_begin(small.cache, &small.seq, &count, 1, &count, 2, nullptr, &error) == nullptr);
    expect_message(error, "n_positions");
    const auto refused = [&](const char* name, auto spoil) {
        kvc_step_options options;
        kvc_step_options_init(&options, sizeof options);
        spoil(options);
        CHECK(begin(1, 1, &options) == nullptr);
        CHECK(error.status == KVC_E_ARGUMENT);
        expect_message(error, name);
    };
    refused("kv_dtype", [](kvc_step_options& o) { o.kv_dtype = 3; });
    refused("q_dtype", [](kvc_step_options& o) { o.q_dtype = -1; });
    refused("out_dtype", [](kvc_step_options& o) { o.out_dtype = INT32_MAX; });
    refused("k_token_stride -1", [](kvc_step_options& o) { o.k_token_stride = -1; });
    refused("v_head_stride -64", [](kvc_step_options& o) { o.v_head_stride = -64; });
    refused("q_head_stride -9223372036854775808", [](kvc_step_options& o) { o.q_head_stride = INT64_MIN; });
    refused("out_token_stride -1", [](kvc_step_options& o) { o.out_token_stride = -1; });
    refused("partial_commit", [](kvc_step_options& o) { o.partial_commit = 2; });
    refused("strict", [](kvc_step_options& o) { o.strict = -1; });
    refused("accumulate", [](kvc_step_options& o) { o.accumulate = 7; });
}

TEST_CASE("append and attend: layers, missing and short buffers, and options out of range") {
    SmallCache small;
    kvc_error error = empty_error();
    kvc_step* step = small.begin();
    const int64_t kv = 2 * 32 * 4, q = 4 * 32 * 4;
    float *k = small.k.data(), *v = small.v.data(), *queries = small.q.data(), *out = small.out.data();
    for (int64_t wrong : {int64_t{-1}, int64_t{2}, INT64_MAX}) {
        CHECK(kvc_append(step, wrong, k, kv, v, kv, &error) == KVC_E_ARGUMENT);
        expect_message(error, "layer");
        CHECK(kvc_attend(step, wrong, queries, q, out, q, nullptr, 0, nullptr, &error) == KVC_E_ARGUMENT);
        expect_message(error, "layer");
    }
    CHECK(kvc_append(step, 0, nullptr, kv, v, kv, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_append(step, 0, k, kv, nullptr, kv, &error) == KVC_E_ARGUMENT);
    for (int64_t wrong : {kv - 1, int64_t{0}, int64_t{-1}}) {
        CHECK(kvc_append(step, 0, k, wrong, v, kv, &error) == KVC_E_ARGUMENT);
        expect_message(error, "append: k");
        CHECK(kvc_append(step, 0, k, kv, v, wrong, &error) == KVC_E_ARGUMENT);
        expect_message(error, "append: v");
    }
    small.append_all(step, 1);
    const auto attend = [&](int64_t q_bytes, int64_t out_bytes, float* lse, int64_t lse_bytes, const kvc_attend_options* options) {
        return kvc_attend(step, 0, queries, q_bytes, out, out_bytes, lse, lse_bytes, options, &error);
    };
    CHECK(attend(q - 1, q, nullptr, 0, nullptr) == KVC_E_ARGUMENT);
    CHECK(attend(q, q - 1, nullptr, 0, nullptr) == KVC_E_ARGUMENT);
    CHECK(attend(q, q, small.lse.data(), 15, nullptr) == KVC_E_ARGUMENT);
    expect_message(error, "lse");
    CHECK(kvc_attend(step, 0, nullptr, q, out, q, nullptr, 0, nullptr, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_attend(step, 0, queries, q, nullptr, q, nullptr, 0, nullptr, &error) == KVC_E_ARGUMENT);
    const auto refused = [&](const char* name, auto spoil) {
        kvc_attend_options options;
        kvc_attend_options_init(&options, sizeof options);
        spoil(options);
        CHECK(attend(q, q, nullptr, 0, &options) == KVC_E_ARGUMENT);
        expect_message(error, name);
    };
    const float nan = std::numeric_limits<float>::quiet_NaN(), infinite = std::numeric_limits<float>::infinity();
    refused("scale", [=](kvc_attend_options& o) { o.scale = nan; });
    refused("scale", [=](kvc_attend_options& o) { o.scale = infinite; });
    refused("soft_cap", [=](kvc_attend_options& o) { o.soft_cap = nan; });
    refused("soft_cap", [](kvc_attend_options& o) { o.soft_cap = -1; });
    refused("partial", [](kvc_attend_options& o) { o.partial = 2; });
    refused("sliding_window", [](kvc_attend_options& o) { o.sliding_window = -2; });
    refused("causal_offset", [](kvc_attend_options& o) { o.causal_offset = 1; });
    CHECK(attend(q, q, small.lse.data(), 16, nullptr) == KVC_OK);
    CHECK(kvc_step_commit(step, nullptr, 0, &error) == KVC_OK);
}

TEST_CASE("evict: ranges, budgets and lists out of range change nothing") {
    SmallCache small;
    kvc_error error = empty_error();
    const auto refused = [&](const char* name, auto spoil) {
        kvc_evict_options options;
        kvc_evict_options_init(&options, sizeof options);
        options.budget = 5;
        spoil(options);
        CHECK(kvc_evict(small.cache, small.seq, nullptr, 0, &options, nullptr, &error) == KVC_E_ARGUMENT);
        expect_message(error, name);
    };
    refused("layers", [](kvc_evict_options& o) { o.layer_begin = 1; });
    refused("layers", [](kvc_evict_options& o) { o.layer_end = 3; });
    refused("layers", [](kvc_evict_options& o) { o.layer_begin = -1, o.layer_end = 1; });
    refused("heads", [](kvc_evict_options& o) { o.head_begin = 1, o.head_end = 1; });
    refused("heads", [](kvc_evict_options& o) { o.head_end = INT64_MAX; });
    refused("budget", [](kvc_evict_options& o) { o.budget = 0; });
    refused("budget", [](kvc_evict_options& o) { o.budget = INT64_MIN; });
    refused("recent", [](kvc_evict_options& o) { o.recent = -1; });
    kvc_evict_options options;
    kvc_evict_options_init(&options, sizeof options);
    options.budget = 5;
    float scores[20] = {};
    CHECK(kvc_evict(small.cache, small.seq, scores, 19, &options, nullptr, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_evict(small.cache, small.seq, nullptr, 20, &options, nullptr, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_evict(small.cache, small.seq, scores, -1, &options, nullptr, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_evict(small.cache, small.seq, scores, 20, &options, nullptr, &error) == KVC_OK);
    const int64_t down[] = {2, 1}, twice[] = {1, 1};
    CHECK(kvc_evict_keep(small.cache, small.seq, down, 2, nullptr, nullptr, &error) == KVC_E_ARGUMENT);
    expect_message(error, "ascending");
    CHECK(kvc_evict_keep(small.cache, small.seq, twice, 2, nullptr, nullptr, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_evict_keep(small.cache, small.seq, nullptr, 2, nullptr, nullptr, &error) == KVC_E_ARGUMENT);
    CHECK(kvc_evict_keep(small.cache, small.seq, down, -1, nullptr, nullptr, &error) == KVC_E_ARGUMENT);
    int64_t live = 0;
    CHECK(kvc_seq_live(small.cache, small.seq, 0, 0, &live, &error) == KVC_OK);
    CHECK(live == 5);
}

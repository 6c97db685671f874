#include <doctest/doctest.h>
#include <kvc.h>

#include <cstring>
#include <string>

namespace {

// 2^12 layers, 2^10 heads, 2^24 sequences: 2^56 bytes of plain 16-bit numbers per token.
kvc_status plan_at_the_limits(int64_t tokens, kvc_plan* out, kvc_error* err) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 4096;
    options.kv_heads = 1024;
    options.k_dim = options.v_dim = 256;
    options.arena_tokens = 1;
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = tokens;
    request.sequences = int64_t{1} << 24;
    return kvc_plan_compute(&options, nullptr, 0, &request, out, err);
}

}  // namespace

TEST_CASE("plan: a request whose records fit 64 bits is answered") {
    kvc_error err = {sizeof err, 0, {}};
    kvc_plan plan = {};
    plan.struct_size = sizeof plan;
    REQUIRE_MESSAGE(plan_at_the_limits(65, &plan, &err) == KVC_OK, err.message);
    CHECK(plan.fp16_bytes == int64_t{65} << 56);
    CHECK(plan.arena_bytes >= plan.record_bytes);
    CHECK(plan.record_bytes >= plan.fp16_bytes);
}

TEST_CASE("plan: numbers that fit 64 bits in records that do not are refused, and nothing is written") {
    for (const int64_t tokens : {70, 127, 128, 1000}) {
        kvc_error err = {sizeof err, 0, {}};
        kvc_plan plan, before;
        std::memset(&plan, 0, sizeof plan);
        plan.struct_size = sizeof plan;
        plan.arena_bytes = -7;
        std::memcpy(&before, &plan, sizeof plan);
        CHECK(plan_at_the_limits(tokens, &plan, &err) == KVC_E_ARGUMENT);
        CHECK(std::string(err.message).find("2^63") != std::string::npos);
        CHECK(std::memcmp(&before, &plan, sizeof plan) == 0);
    }
}

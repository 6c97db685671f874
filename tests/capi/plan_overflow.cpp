#include <cstring>
#include <doctest/doctest.h>
#include <kvc.h>
#include <string>

namespace {

// 2^12 layers, 2^10 heads: 2^32 bytes of plain 16-bit numbers per token.
kvc_status plan_at_the_limits(int64_t tokens, int64_t sequences, kvc_plan* out, kvc_error* err) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 4096;
    options.kv_heads = 1024;
    options.k_dim = options.v_dim = 256;
    kvc_plan_request request;
    kvc_plan_request_init(&request, sizeof request);
    request.tokens = tokens;
    request.sequences = sequences;
    return kvc_plan_compute(&options, nullptr, 0, &request, out, err);
}

}  // namespace

TEST_CASE("plan: the largest shapes are answered while an arena can hold them") {
    kvc_error err = {sizeof err, 0, {}};
    kvc_plan plan = {};
    plan.struct_size = sizeof plan;
    REQUIRE_MESSAGE(plan_at_the_limits(65, 1, &plan, &err) == KVC_OK, err.message);
    CHECK(plan.fp16_bytes == int64_t{65} << 32);
    CHECK(plan.arena_bytes >= plan.record_bytes);
    CHECK(plan.record_bytes >= plan.fp16_bytes);
}

TEST_CASE("plan: requests beyond an arena, and beyond 64 bits, are refused with the limit, and nothing is written") {
    struct Request {
        int64_t tokens, sequences;
    };
    const int64_t most = int64_t{1} << 24;
    for (const Request& r :
         {Request{3000, 1}, {65, 8}, {65, most}, {70, most}, {127, most}, {128, most}, {1000, most}, {int64_t{1} << 40, most}}) {
        kvc_error err = {sizeof err, 0, {}};
        kvc_plan plan, before;
        std::memset(&plan, 0, sizeof plan);
        plan.struct_size = sizeof plan;
        plan.arena_bytes = -7;
        std::memcpy(&before, &plan, sizeof plan);
        CHECK(plan_at_the_limits(r.tokens, r.sequences, &plan, &err) == KVC_E_ARGUMENT);
        CHECK(std::string(err.message).find("2199021158400 bytes that an arena can hold") != std::string::npos);
        CHECK(std::memcmp(&before, &plan, sizeof plan) == 0);
    }
}

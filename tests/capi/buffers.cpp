// What callers' buffers hold: rows that overlap, numbers that 16 bits do not hold, positions that are none.
#include <cmath>
#include <limits>

#include "tests/capi/fixture.h"

using namespace capi_tests;

TEST_CASE("attend: rows of out that overlap are refused, any layout of rows apart is taken") {
    SmallCache small;  // 4 query heads, head dim 32
    kvc_error error = empty_error();
    const struct {
        int64_t token_stride, head_stride;
        bool apart;
    } layouts[] = {{0, 1, false},   {0, 31, false},  {0, 32, true},   {127, 32, false}, {128, 32, true},  {32, 64, true},
                   {31, 64, false}, {32, 63, false}, {1, 128, false}, {0, 40, true},    {151, 40, false}, {152, 40, true}};
    for (const auto& layout : layouts) {
        kvc_step_options options;
        kvc_step_options_init(&options, sizeof options);
        options.out_token_stride = layout.token_stride;
        options.out_head_stride = layout.head_stride;
        const int64_t count = 2;
        kvc_step* step = kvc_step_begin(small.cache, &small.seq, &count, 1, nullptr, 0, &options, &error);
        REQUIRE(step);
        std::vector<float> rows(2 * 4 * 32, 0.5f), out(1024, -7.0f);
        const int64_t bytes = int64_t(rows.size()) * 4;
        REQUIRE(kvc_append(step, 0, rows.data(), bytes / 2, rows.data(), bytes / 2, &error) == KVC_OK);
        const kvc_status status = kvc_attend(step, 0, rows.data(), bytes, out.data(), 4096, nullptr, 0, nullptr, &error);
        CHECK(status == (layout.apart ? KVC_OK : KVC_E_ARGUMENT));
        if (!layout.apart) {
            expect_message(error, "overlap");
            CHECK(out == std::vector<float>(1024, -7.0f));
        }
        CHECK(kvc_step_abort(step, &error) == KVC_OK);
    }
}

TEST_CASE("append, attend: a buffer that is not aligned to its numbers is refused by name, and nothing has changed") {
    SmallCache small;
    kvc_error error = empty_error();
    for (const int32_t dtype : {KVC_F32, KVC_F16, KVC_BF16}) {
        const int64_t unit = dtype == KVC_F32 ? 4 : 2;
        kvc_step_options options;
        kvc_step_options_init(&options, sizeof options);
        options.kv_dtype = options.q_dtype = options.out_dtype = dtype;
        const int64_t count = 1;
        kvc_step* step = kvc_step_begin(small.cache, &small.seq, &count, 1, nullptr, 0, &options, &error);
        REQUIRE(step);
        std::vector<float> room(300);
        char* const there = reinterpret_cast<char*>(room.data());
        const auto append = [&](int64_t k, int64_t v) {
            return kvc_append(step, 0, there + k, 64 * unit, there + v, 64 * unit, &error);
        };
        const auto attend = [&](int64_t q, int64_t out, int64_t lse) {
            void* const sums = there + 1024 + lse;
            return kvc_attend(step, 0, there + q, 128 * unit, there + out, 128 * unit, static_cast<float*>(sums), 16, nullptr, &error);
        };
        for (int64_t off = 1; off < unit; off++) {
            CHECK(append(off, 0) == KVC_E_ARGUMENT);
            expect_message(error, ("append: k is " + std::to_string(off) + " bytes behind a multiple").c_str());
            CHECK(append(0, off) == KVC_E_ARGUMENT);
            expect_message(error, "append: v is");
        }
        REQUIRE(append(unit, 0) == KVC_OK);
        const std::vector<float> before = room;
        for (int64_t off = 1; off < unit; off++) {
            CHECK(attend(off, 0, 0) == KVC_E_ARGUMENT);
            expect_message(error, "attend: q is");
            CHECK(attend(0, off, 0) == KVC_E_ARGUMENT);
            expect_message(error, "attend: out is");
        }
        for (const int64_t off : {1, 2, 3}) {
            CHECK(attend(0, 512, off) == KVC_E_ARGUMENT);
            expect_message(error, "attend: lse is");
        }
        CHECK(room == before);
        CHECK(attend(unit, 512, 4) == KVC_OK);
        CHECK(kvc_step_abort(step, &error) == KVC_OK);
    }
}

TEST_CASE("append: a refused number is told with its row, the limit and what to do") {
    SmallCache small;
    kvc_error error = empty_error();
    for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e6f}) {
        kvc_step* step = small.begin();
        std::vector<float> k(2 * 32, 1.0f), v(2 * 32, 2.0f);
        v[32 + 5] = wrong;
        CHECK(kvc_append(step, 0, k.data(), 256, v.data(), 256, &error) == KVC_E_NONFINITE);
        for (const char* told : {"layer 0", "token 0", "kv head 1", "keys reach 1,", "65504", "saturate"})
            expect_message(error, told);
        expect_message(error, std::isnan(wrong) ? "values nan" : std::isinf(wrong) ? "values inf" : "values 1e+06");
        CHECK(kvc_append(step, 0, k.data(), 256, k.data(), 256, &error) == KVC_OK);
        CHECK(kvc_step_abort(step, &error) == KVC_OK);
    }
}

TEST_CASE("evict_keep: positions beyond the sequence are out of range, evicted ones may be named again") {
    SmallCache small;
    kvc_error error = empty_error();
    int64_t length = 0;
    REQUIRE(kvc_seq_length(small.cache, small.seq, &length, &error) == KVC_OK);
    for (const int64_t wrong : {int64_t{-1}, length, INT64_MAX, INT64_MIN}) {
        CHECK(kvc_evict_keep(small.cache, small.seq, &wrong, 1, nullptr, nullptr, &error) == KVC_E_RANGE);
        expect_message(error, std::to_string(wrong).c_str());
    }
    const int64_t ends[] = {0, length - 1};
    CHECK(kvc_evict_keep(small.cache, small.seq, ends, 2, nullptr, nullptr, &error) == KVC_OK);
    CHECK(kvc_evict_keep(small.cache, small.seq, ends, 2, nullptr, nullptr, &error) == KVC_OK);
}

TEST_CASE("read codes: a buffer without bytes suffices where nothing is coded") {
    SmallCache small;
    uint8_t byte = 0;
    int64_t tokens = -1;
    CHECK(kvc_seq_read_codes(small.cache, small.seq, 0, 0, KVC_KEYS, &byte, 0, &tokens, nullptr) == KVC_OK);
    CHECK(tokens == 0);
    kvc_error error = empty_error();
    CHECK(kvc_seq_read_codes(small.cache, small.seq, 0, 0, KVC_KEYS, &byte, -1, &tokens, &error) == KVC_E_ARGUMENT);
    expect_message(error, "negative");
}

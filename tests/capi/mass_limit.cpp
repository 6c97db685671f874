// The number of queries whose mass an int64 can hold.
#include "tests/capi/fixture.h"

using namespace capi_tests;

TEST_CASE("step begin: more queries than an int64 of mass can count are refused as such, not for want of memory") {
    SmallCache small;  // two query heads share a kv head
    kvc_error error = empty_error();
    kvc_step_options options;
    kvc_step_options_init(&options, sizeof options);
    options.accumulate = 1;
    const int64_t limit = ((int64_t{1} << 33) - 1) / 2;
    const auto begin = [&](int64_t tokens) {
        return kvc_step_begin(small.cache, &small.seq, &tokens, 1, nullptr, 0, &options, &error);
    };
    CHECK(begin(limit + 1) == nullptr);
    CHECK(error.status == KVC_E_ARGUMENT);
    expect_message(error, "queries");
    CHECK(begin(limit) == nullptr);
    CHECK(error.status == KVC_E_NO_MEMORY);
}

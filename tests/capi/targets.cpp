// Kernel targets: what this machine names, and what it refuses to be forced to.
#include <cstring>
#include <set>
#include <string>

#include "tests/capi/fixture.h"

using namespace capi_tests;

TEST_CASE("options: a forced target is taken where this machine runs it, and refused by its name where it does not") {
    std::set<std::string> runs;
    for (int64_t i = 0; i < kvc_target_count(); i++)
        runs.insert(kvc_target_name(i));
    for (const char* target : {"avx512vnni", "avx512", "avx2", "neon", "scalar"}) {
        CAPTURE(target);
        kvc_options options = small_options();
        std::strcpy(options.target, target);
        kvc_error error = empty_error();
        const kvc_status status = kvc_supports(&options, nullptr, 0, &error);
        CHECK(status == (runs.contains(target) ? KVC_OK : KVC_E_UNSUPPORTED));
        if (status != KVC_OK) {
            expect_message(error, target);
            expect_message(error, "does not run on this machine");
            CHECK(kvc_create(&options, nullptr, 0, nullptr) == nullptr);
        }
    }
    CHECK(runs.contains("scalar"));
    CHECK(runs.size() < 5);  // no machine is of both processor families
}

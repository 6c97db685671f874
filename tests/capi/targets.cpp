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

TEST_CASE("options: memory pools belong to devices, and a cache on the CPU that names one is told so") {
    for (const char* target : {",pool", ",pool=own", "scalar,pool"}) {
        CAPTURE(target);
        kvc_options options = small_options();
        std::strcpy(options.target, target);
        kvc_error error = empty_error();
        CHECK(kvc_supports(&options, nullptr, 0, &error) == KVC_E_ARGUMENT);
        CHECK(std::string(error.message) ==
              "target \"" + std::string(target) + "\": memory pools belong to devices, and this cache is on the CPU");
        CHECK(kvc_create(&options, nullptr, 0, nullptr) == nullptr);
    }
    kvc_options options = small_options();
    std::strcpy(options.target, "scalar,pond");
    kvc_error error = empty_error();
    CHECK(kvc_supports(&options, nullptr, 0, &error) == KVC_E_ARGUMENT);
    expect_message(error, "behind the comma stands pool or pool=own");
}

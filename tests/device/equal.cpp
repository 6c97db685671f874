// What a device keeps and gives is what the CPU keeps and gives with the same kernels, bit for bit, in scripts of random operations.
#include <kvc.h>
#include <utility>

#include "doctest/doctest.h"
#include "tests/model/generate.h"
#include "tests/model/replay.h"

namespace {

using kvc_scripts::Script;

// Numbers that cannot be stored are found later on a device (late.cpp): scripts without them.
Script with_numbers_that_fit(Script script) {
    for (kvc_scripts::Operation& operation : script) {
        const std::string kind = operation.word("kind", "normal");
        const bool may_not_fit =
            kind == "nan" || kind == "inf" || kind == "huge" || kind == "extreme" || kind == "outlier" || kind == "sharp";
        if (operation.verb == "append" && may_not_fit) operation.set("kind", "normal");
    }
    return script;
}

std::vector<kvc_scripts::Outcome> outcomes(const Script& script, int32_t device, const std::string& target) {
    const int32_t before = std::exchange(kvc_scripts::device_of_scripts(), device);
    kvc_scripts::Replay replay({target, 0});
    std::vector<kvc_scripts::Outcome> all;
    for (const kvc_scripts::Operation& operation : script)
        all.push_back(replay.run(operation));
    kvc_scripts::device_of_scripts() = before;
    return all;
}

}  // namespace

TEST_CASE("device: random scripts give the bits that the CPU gives with the same kernels") {
    int64_t operations = 0, succeeded = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        const std::string target = kvc_target_name(int64_t(seed) % kvc_target_count());
        const Script script = with_numbers_that_fit(kvc_scripts::generate(seed, {60, seed % 5 == 0}));
        const auto host = outcomes(script, KVC_CPU, target), device = outcomes(script, KVC_CUDA, target);
        for (size_t i = 0; i < script.size(); i++) {
            CAPTURE(seed);
            CAPTURE(print(script[i]));
            REQUIRE_MESSAGE(device[i].status == host[i].status, device[i].message << " / " << host[i].message);
            if (script[i].verb == "stats" || script[i].verb == "prefix_stats") continue;  // tables of a device cache are larger
            CHECK(device[i].bytes == host[i].bytes);
            succeeded += host[i].status == KVC_OK;
        }
        operations += int64_t(script.size());
    }
    CHECK(succeeded > operations / 2);
}

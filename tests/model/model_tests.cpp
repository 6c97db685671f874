// Random scripts on the library and on the reference model, for every kernel target of this machine. A failure prints the shrunk script.
//
// KVC_MODEL_SECONDS says how long, shared out among the targets (default 20); KVC_MODEL_SEED where to begin.
#include <chrono>
#include <cstdlib>
#include <kvc.h>
#include <string>

#include "doctest/doctest.h"
#include "tests/model/generate.h"
#include "tests/model/model_run.h"

using namespace kvc_scripts;

namespace {

double number_from(const char* variable, double otherwise) {
    const char* text = std::getenv(variable);
    return text ? std::atof(text) : otherwise;
}

void report(uint64_t seed, const Script& script, const Comparison& result, const RunOptions& options) {
    const Script small = shrink_fault(script, options, 600);
    FAIL_CHECK("seed " << seed << ", target " << options.target << ", threads " << options.threads << "\n"
                       << print(script[result.line]) << "\n"
                       << result.fault << "\nshrunk:\n"
                       << print(small) << compare(small, options).fault);
}

void soak(const std::string& target, double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    auto seed = static_cast<uint64_t>(number_from("KVC_MODEL_SEED", 1));
    int64_t scripts = 0, operations = 0, compared = 0;
    for (; std::chrono::steady_clock::now() < end; ++seed, ++scripts) {
        const GenerateOptions generate_options{60, seed % 5 == 0};
        const RunOptions options{target, static_cast<int64_t>(seed % 3)};
        const Script script = generate(seed, generate_options);
        const Comparison result = compare(script, options);
        operations += result.operations, compared += result.compared;
        if (!result.fault.empty()) return report(seed, script, result, options);
    }
    MESSAGE(target << ": " << scripts << " scripts, " << operations << " operations, " << compared << " numbers compared");
    CHECK(scripts > 0);
}

}  // namespace

TEST_CASE("model: random scripts give what the reference model gives, on every target") {
    const double seconds = number_from("KVC_MODEL_SECONDS", 20) / static_cast<double>(kvc_target_count());
    for (int64_t i = 0; i < kvc_target_count(); ++i)
        soak(kvc_target_name(i), seconds);
}

TEST_CASE("model: on every target digests do not depend on threads") {
    for (uint64_t seed = 1; seed <= 10; ++seed) {
        const Script script = generate(seed, {40, false});
        for (int64_t i = 0; i < kvc_target_count(); ++i) {
            const std::string target = kvc_target_name(i);
            const std::string alone = compare(script, {target, 0}).digest;
            for (int64_t threads : {1, 3})
                CHECK_MESSAGE(compare(script, {target, threads}).digest == alone, "seed " << seed << ", target " << target);
        }
    }
}

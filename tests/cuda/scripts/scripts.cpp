// Random scripts over caches on a CUDA device, beside the reference model. What the device has no kernels for (most
// head dims and pairs of codecs) is taken out of the scripts, and numbers that cannot be stored, which it finds later.
//
// KVC_MODEL_SECONDS says how long (default 30); KVC_MODEL_SEED where to begin.
#include <chrono>
#include <cstdlib>
#include <kvc.h>
#include <string>
#include <utility>

#include "doctest/doctest.h"
#include "tests/cuda/scripts/machine.h"
#include "tests/model/generate.h"
#include "tests/model/model_run.h"

using namespace kvc_scripts;
using namespace kvc_cuda_scripts;

namespace {

// Before any test: scripts make their caches on a device.
[[maybe_unused]] const int32_t before = std::exchange(device_of_scripts(), KVC_CUDA);

// q and p become fp16 once as they are, and once more times a scale.
constexpr double product_rounding = 0x1p-10;

double number_from(const char* variable, double otherwise) {
    const char* text = std::getenv(variable);
    return text ? std::atof(text) : otherwise;
}

const char* const pairs[] = {"k=int4.ch.g32.m8,v=int4.tok.rot.sym",
                             "k=int8.ch.g32.m8,v=int8.tok.rot.sym",
                             "k=f16,v=f16",
                             "k=int2.ch.g32.m8,v=int2.tok.rot.ls",
                             "k=bf16,v=bf16",
                             "k=int4.ch.g32,v=int4.tok.g32",
                             "k=int4.ch.g64.m8,v=int4.tok.rot.sym",
                             "k=int2.ch.g64,v=int2.tok.ls"};

// The windows and sinks that a script asked for, with a pair that there are kernels for.
std::string codec_for_device(const std::string& codec, uint64_t seed) {
    const size_t rest = codec.find(",window=");
    return pairs[seed % std::size(pairs)] + (rest == std::string::npos ? ",window=64,sinks=4" : codec.substr(rest));
}

Script for_device(Script script, uint64_t seed) {
    const bool in_groups_of_64 = std::string(pairs[seed % std::size(pairs)]).find(".g64") != std::string::npos;
    for (Operation& operation : script) {
        auto& values = operation.arguments;
        if (const auto codec = values.find("codec"); codec != values.end()) codec->second = codec_for_device(codec->second, seed);
        if (values.count("k_dim")) values["k_dim"] = seed % 3 == 0 && !in_groups_of_64 ? "96" : "64", values["v_dim"] = "64";
        const auto kind = values.find("kind");
        if (operation.verb == "append" && kind != values.end() && kind->second != "sharp" && kind->second != "constant")
            values.erase(kind);
    }
    return script;
}

// What the host's kernels and the model disagree on is not the device's.
bool differs_on_host(const Script& script, const std::string& kind) {
    const int32_t device = std::exchange(device_of_scripts(), KVC_CPU);
    const Comparison result = compare(script, {});
    device_of_scripts() = device;
    return result.kind == kind;
}

}  // namespace

TEST_CASE("cuda scripts: random scripts give what the reference model gives, in any order of streams and lanes") {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(number_from("KVC_MODEL_SECONDS", 30));
    auto seed = static_cast<uint64_t>(number_from("KVC_MODEL_SEED", 1));
    const int selected = select_another_device();
    int64_t scripts = 0, operations = 0, refused = 0, compared = 0, elsewhere = 0;
    for (; std::chrono::steady_clock::now() < end; ++seed, ++scripts) {
        const Order order(seed % 4, seed);
        const Script script = for_device(generate(seed, {40, false}), seed);
        const Comparison result = compare(script, {.product = product_rounding});
        operations += result.operations, refused += result.refused, compared += result.compared;
        if (!result.fault.empty() && differs_on_host(script, result.kind)) {
            elsewhere++;
            continue;
        }
        if (!result.fault.empty()) {
            FAIL_CHECK("seed " << seed << "\n" << print(script[result.line]) << "\n" << result.fault << "\nscript:\n" << print(script));
            break;
        }
    }
    MESSAGE(scripts << " scripts, " << operations << " operations, " << refused << " refused, " << compared << " numbers compared; in "
                    << elsewhere << " scripts the library differs from the model on the host, too");
    CHECK(elsewhere * 50 <= scripts);
    CHECK(refused < operations / 2);
    CHECK(compared > 0);
    CHECK(selected_device() == selected);
}

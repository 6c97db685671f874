// Append throughput, the quantization of pages that leave the window included, in nanoseconds per 1,024 values.
#include <string>

#include "bench/kvc_bench.h"

namespace bench {
namespace {

constexpr int64_t held_tokens = 1024;   // beyond every preset's window, so that each page that is filled makes another one leave
constexpr int64_t round_tokens = 1024;  // whole pages: every round quantizes as many

// A round appends 1,024 tokens in steps of `step_tokens` to a branch of its own.
void append(benchmark::State& state, Bench& bench, const CacheRequest& request, int64_t step_tokens) {
    LayerCache& cache = bench.cache(request);
    double append_seconds = 0, all_seconds = 0;
    for (auto _ : state) {
        cache.branch(false);
        cache.append_only(64);  // makes the branch's own copy of the window
        double round = 0;
        for (int64_t done = 0; done < round_tokens; done += step_tokens) {
            const StepSeconds took = cache.append_only(step_tokens);
            append_seconds += took.append;
            round += took.all();
        }
        state.SetIterationTime(round);
        all_seconds += round;
    }
    const double values = 2.0 * double(request.shape.kv_heads * request.shape.head_dim) * double(round_tokens);
    const double thousands = values / 1024 * double(state.iterations());
    state.counters["ns_per_1024"] = all_seconds * 1e9 / thousands;
    state.counters["ns_per_1024_append_alone"] = append_seconds * 1e9 / thousands;
}

}  // namespace

void register_append(Bench& bench) {
    for (const char* codec : {"fp16", "int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2"}) {
        for (int64_t step_tokens : {1, 512}) {
            const CacheRequest request = {shape_of("L"), codec, "", held_tokens, 1};
            const std::string name = std::string("append/L/") + codec + "/step_tokens:" + std::to_string(step_tokens) + "/threads:1";
            benchmark::RegisterBenchmark(
                name.c_str(), [&bench, request, step_tokens](benchmark::State& s) { append(s, bench, request, step_tokens); })
                ->UseManualTime()
                ->Unit(benchmark::kMicrosecond)
                ->MinTime(0.1);
        }
    }
}

}  // namespace bench

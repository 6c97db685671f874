// What attention mass costs an attend: caches that count none, that of each token, and that of each page, one after the other in every
// sample, so that ratios are those of the same moment.
#include <string>
#include <thread>
#include <vector>

#include "bench/kvc_bench.h"

namespace bench {
namespace {

constexpr int64_t prompt_tokens = 512;

// Policies that never act: mass is kept, and nothing leaves.
std::string policy_of(const char* mass) { return mass ? "h2o:1000000,every=never,mass=" + std::string(mass) : ""; }

struct Timed {
    std::vector<double> attend, step;
};

// Counters: medians without mass, and medians of what the others take for what it takes.
void compare(benchmark::State& state, Bench& bench, const CacheRequest& request, int64_t tokens) {
    std::vector<std::unique_ptr<LayerCache>> caches;
    for (const char* mass : {static_cast<const char*>(nullptr), "exact", "page"}) {
        CacheRequest with = request;
        with.policy = policy_of(mass);
        caches.push_back(std::make_unique<LayerCache>(with, bench.numbers));
        caches.back()->branch(tokens > 1);
        caches.back()->step(1);  // makes the branch's own copy of the window
    }
    Timed none, ratios[2];
    for (auto _ : state) {
        StepSeconds took[3];
        for (size_t i = 0; i < caches.size(); i++) {
            if (tokens > 1) caches[i]->branch(true);
            bench.flush();
            caches[i]->wake_threads();
            took[i] = caches[i]->step(tokens);
        }
        state.SetIterationTime(took[0].attend);
        none.attend.push_back(took[0].attend), none.step.push_back(took[0].all());
        for (size_t i = 0; i < 2; i++) {
            ratios[i].attend.push_back(took[i + 1].attend / took[0].attend);
            ratios[i].step.push_back(took[i + 1].all() / took[0].all());
        }
    }
    state.counters["attend_us"] = median(none.attend) * 1e6;
    state.counters["step_us"] = median(none.step) * 1e6;
    state.counters["exact_attend"] = median(ratios[0].attend);
    state.counters["exact_step"] = median(ratios[0].step);
    state.counters["page_attend"] = median(ratios[1].attend);
    state.counters["page_step"] = median(ratios[1].step);
}

}  // namespace

void register_mass(Bench& bench) {
    for (const char* shape : {"L", "S"}) {
        for (const char* codec : {"fp16", "int8", "int4", "int2"}) {
            for (const int64_t context : {4096, 32768}) {
                for (const int64_t tokens : {int64_t{1}, prompt_tokens}) {
                    const CacheRequest request = {shape_of(shape), codec, "", context, std::thread::hardware_concurrency()};
                    const std::string name = std::string(tokens > 1 ? "mass_prompt/" : "mass_decode/") + shape + "/" + codec +
                                             "/context:" + std::to_string(context / 1024) + "k";
                    benchmark::RegisterBenchmark(name.c_str(),
                                                 [&bench, request, tokens](benchmark::State& s) { compare(s, bench, request, tokens); })
                        ->UseManualTime()
                        ->Unit(benchmark::kMicrosecond)
                        ->Iterations(tokens > 1 ? 9 : 51);
                }
            }
        }
    }
}

}  // namespace bench

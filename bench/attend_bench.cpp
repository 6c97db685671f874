// Decode and prefill over codec x context x GQA x threads, one layer, caches cold.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "bench/kvc_bench.h"

namespace bench {
namespace {

const char* const codecs[] = {"fp16", "int8", "int4", "int3", "k3v2", "int2"};
constexpr int64_t prompt_tokens = 512;
constexpr int64_t branch_steps = 32;  // then a new branch, so that a short cache stays short

std::vector<int64_t> thread_counts() {
    const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
    std::vector<int64_t> counts;
    for (int64_t n = 1; n < cores; n *= 2)
        counts.push_back(n);
    counts.push_back(cores);
    return counts;
}

enum class Timed { step, attend };

// Counters besides the time: tokens seen a second, bytes read a second, and their share of what plain loads get just now.
void report(benchmark::State& state, Bench& bench, const CacheRequest& request, double bytes, double tokens, double seconds) {
    const double rate = bytes * double(state.iterations()) / seconds;
    state.counters["cache_bytes"] = bytes;
    state.counters["tokens_per_s"] = tokens * double(state.iterations()) / seconds;
    state.counters["bytes_per_s"] = rate;
    state.counters["bandwidth_share"] = rate / bench.probe.bytes_per_second(request.threads);
}

void decode(benchmark::State& state, Bench& bench, const CacheRequest& request, Timed timed) {
    LayerCache& cache = bench.cache(request);
    cache.branch(false);
    cache.step(1);  // makes the branch's own copy of the window
    double seconds = 0;
    for (auto _ : state) {
        bench.flush();
        cache.wake_threads();
        const StepSeconds took = cache.step(1);
        const double t = timed == Timed::step ? took.all() : took.attend;
        state.SetIterationTime(t);
        seconds += t;
    }
    report(state, bench, request, double(cache.bytes()), double(request.context), seconds);
}

// A step over a cache so short that kernels hardly count, warm: what begin, the plan, the worker threads and commit cost.
void overhead(benchmark::State& state, Bench& bench, const CacheRequest& request) {
    LayerCache& cache = bench.cache(request);
    cache.branch(false);
    cache.step(1);
    int64_t steps = 1;
    std::vector<double> begin, append, attend, commit;
    for (auto _ : state) {
        if (steps++ % branch_steps == 0) {
            cache.branch(false);
            cache.step(1);
        }
        cache.wake_threads();
        const StepSeconds took = cache.step(1);
        state.SetIterationTime(took.all());
        begin.push_back(took.begin * 1e6);
        append.push_back(took.append * 1e6);
        attend.push_back(took.attend * 1e6);
        commit.push_back(took.commit * 1e6);
    }
    state.counters["begin_us"] = median(begin);
    state.counters["append_us"] = median(append);
    state.counters["attend_us"] = median(attend);
    state.counters["commit_us"] = median(commit);
}

void prefill(benchmark::State& state, Bench& bench, const CacheRequest& request) {
    LayerCache& cache = bench.cache(request);
    double seconds = 0;
    for (auto _ : state) {
        cache.branch(true);
        cache.wake_threads();
        const double t = cache.step(prompt_tokens).all();
        state.SetIterationTime(t);
        seconds += t;
    }
    report(state, bench, request, double(cache.bytes()), double(prompt_tokens), seconds);
}

std::string context_name(int64_t tokens) { return std::to_string(tokens / 1024) + "k"; }

void register_decode_of(Bench& bench, const CacheRequest& request) {
    const std::string gqa = std::to_string(request.shape.q_heads / request.shape.kv_heads);
    const std::string tail = request.shape.name + "/" + request.codec + "/context:" + context_name(request.context) + "/gqa:" + gqa +
                             "/threads:" + std::to_string(request.threads);
    for (Timed timed : {Timed::step, Timed::attend}) {
        const std::string name = (timed == Timed::step ? "decode_step/" : "decode_attend/") + tail;
        benchmark::RegisterBenchmark(name.c_str(), [&bench, request, timed](benchmark::State& s) { decode(s, bench, request, timed); })
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond)
            ->MinTime(0.05);
    }
}

}  // namespace

void register_decode(Bench& bench) {
    for (const char* name : {"L", "S"}) {
        for (const char* codec : codecs) {
            for (int64_t context : {4096, 32768}) {
                for (int64_t threads : thread_counts())
                    register_decode_of(bench, {shape_of(name), codec, "", context, threads});
            }
        }
    }
    // How the cost grows with the query heads that share a kv head.
    for (const char* codec : {"fp16", "int4"}) {
        for (int64_t group : {1, 2, 8, 16}) {
            Shape shape = shape_of("L");
            shape.q_heads = shape.kv_heads * group;
            register_decode_of(bench, {shape, codec, "", 32768, thread_counts().back()});
        }
    }
    for (const char* codec : {"fp16", "int8", "int4", "int2"}) {
        register_decode_of(bench, {shape_of("L"), codec, "", 131072, thread_counts().back()});
    }
}

void register_overhead(Bench& bench) {
    for (const char* shape : {"L", "S"}) {
        for (const char* codec : {"fp16", "int4"}) {
            for (int64_t threads : thread_counts()) {
                const CacheRequest request = {shape_of(shape), codec, "", 16, threads};
                const std::string name =
                    std::string("overhead/") + shape + "/" + codec + "/context:16/threads:" + std::to_string(threads);
                benchmark::RegisterBenchmark(name.c_str(), [&bench, request](benchmark::State& s) { overhead(s, bench, request); })
                    ->UseManualTime()
                    ->Unit(benchmark::kMicrosecond)
                    ->MinTime(0.05);
            }
        }
    }
}

void register_prefill(Bench& bench) {
    for (const char* shape : {"L", "S"}) {
        for (const char* codec : codecs) {
            for (int64_t threads : thread_counts()) {
                const CacheRequest request = {shape_of(shape), codec, "", 4096, threads};
                const std::string name =
                    std::string("prefill/") + shape + "/" + codec + "/tokens:512/context:4k/threads:" + std::to_string(threads);
                benchmark::RegisterBenchmark(name.c_str(), [&bench, request](benchmark::State& s) { prefill(s, bench, request); })
                    ->UseManualTime()
                    ->Unit(benchmark::kMillisecond)
                    ->MinTime(0.05);
            }
        }
    }
}

}  // namespace bench

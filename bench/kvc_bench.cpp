// kvc_bench: google benchmark's command line (--benchmark_filter, --benchmark_out=FILE --benchmark_out_format=json, ...).
#include "bench/kvc_bench.h"

#include <memory>

namespace bench {

LayerCache& Bench::cache(const CacheRequest& request) {
    if (!cache_ || !(cache_->request() == request)) {
        cache_.reset();  // first, so that two caches never need memory at once
        cache_ = std::make_unique<LayerCache>(request, numbers);
    }
    return *cache_;
}

}  // namespace bench

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    bench::Bench shared;
    benchmark::AddCustomContext("kvc", kvc_build_info());
    benchmark::AddCustomContext("kvc_target", kvc_target_name(0));
    bench::register_decode(shared);
    bench::register_prefill(shared);
    bench::register_overhead(shared);
    bench::register_append(shared);
    bench::register_mass(shared);
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}

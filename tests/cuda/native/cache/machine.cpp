// machine.h of a GPU, which works in the order that it likes. Of a call can be seen whether it waited, as kvc_stats counts it.
#include "tests/cuda/scripts/machine.h"

#include <doctest/doctest.h>

#include "kernels/cuda/runtime.h"

namespace kvc_cuda_scripts {
namespace {

namespace runtime = kvc::cuda::runtime;

int64_t waits_of(const kvc_cache* cache) {
    kvc_stats stats{};
    stats.struct_size = sizeof stats;
    REQUIRE(kvc_stats_get(cache, &stats, nullptr) == KVC_OK);
    return stats.synchronizations;
}

}  // namespace

int select_another_device() {
    const kvc::Result<int> count = runtime::device_count();
    if (count.ok() && *count > 1) {
        CHECK(runtime::select(1).ok());
    }
    return runtime::selected();
}

int selected_device() { return runtime::selected(); }

Order::Order(uint64_t) : strays_(0) {}
Order::Order(uint64_t, uint64_t) : strays_(0) {}
Order::~Order() = default;

Quiet::Quiet(kvc_cache* cache) : cache_(cache), copies_(0), waits_(0), strays_(0) {
    REQUIRE(kvc_synchronize(cache_, nullptr) == KVC_OK);
    waits_ = waits_of(cache_);
}

void Quiet::check() const { CHECK(waits_of(cache_) == waits_); }

}  // namespace kvc_cuda_scripts

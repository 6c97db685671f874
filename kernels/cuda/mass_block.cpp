#include "kernels/cuda/mass_block.h"

namespace kvc::cuda {
namespace {

constexpr int64_t counter_bytes = int64_t(sizeof(int64_t));

}  // namespace

Status MassBlock::create(int64_t bytes, HeapSource heap) {
    KVC_TRY(device_.allocate("attention mass", bytes, heap));
    return host_.allocate("attention mass (pinned memory of the host)", bytes);
}

Status MassBlock::clear(int64_t counters, Stream stream) {
    return counters > 0 ? runtime::fill(device_.data() + used_ * counter_bytes, 0, counters * counter_bytes, stream) : Status{};
}

Status MassBlock::fetch(int64_t counters, Stream stream) {
    if (counters == 0) {
        return {};
    }
    const int64_t at = used_ * counter_bytes;
    return runtime::copy_out(host_.data() + at, device_.data() + at, counters * counter_bytes, stream);
}

void MassBlock::expect(int64_t* to, int64_t n) {
    if (n > 0) {
        targets_.push_back({to, used_, n});
        used_ += n;
    }
}

void MassBlock::expect(const MassItem& mass) {
    expect(mass.sinks, mass.item.sink_tokens);
    expect(mass.coded, page_tokens * mass.item.n_coded);
    expect(mass.window, page_tokens * mass.item.n_window);
}

void MassBlock::expect_runs(const MassItem& mass) {
    expect(mass.sinks, 1);
    expect(mass.coded, mass.item.n_coded);
    expect(mass.window, mass.item.n_window);
}

void MassBlock::add_to_host() {
    const auto* const arrived = reinterpret_cast<const int64_t*>(host_.data());
    for (const Target& target : targets_) {
        for (int64_t i = 0; i < target.n; i++) {
            target.to[i] += arrived[target.from + i];
        }
    }
    targets_.clear();
}

void MassBlock::reuse() {
    if (targets_.empty()) {
        used_ = 0;
    }
}

}  // namespace kvc::cuda

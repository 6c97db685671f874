#include "kernels/cuda/mass_block.h"

#include <algorithm>

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

// Of the sinks' run, the coded pages' and the window pages', what lies in first .. end - 1.
void MassBlock::expect_pages(const PagesOfMass& pages) {
    const MassItem& mass = *pages.mass;
    const int64_t end = pages.first + pages.n, coded_end = 1 + mass.item.n_coded;
    const auto expect_from = [&](int64_t* to, int64_t start, int64_t after) {
        const int64_t from = std::max(pages.first, start), until = std::min(end, after);
        expect(from < until ? to + (from - start) : to, until - from);
    };
    expect_from(mass.sinks, 0, 1);
    expect_from(mass.coded, 1, coded_end);
    expect_from(mass.window, coded_end, mass.item.runs());
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

#include "core/attend/host_executor.h"

#include <algorithm>
#include <atomic>
#include <climits>

namespace kvc {
namespace {

constexpr int token_bits = 20;  // of a job: far more than a record holds

}  // namespace

BadToken HostExecutor::run_stores(std::span<const StoreParams> jobs, bool rehearse) {
    std::atomic<int64_t> first_bad{LLONG_MAX};  // job << token_bits | token: the same one whichever thread finds it
    auto job = [&](int64_t i, std::byte* scratch) {
        int64_t bad;
        if (rehearse) {
            StoreParams store = jobs[size_t(i)];
            store.record = scratch;
            bad = kernels_.store(store);
        } else {
            bad = kernels_.store(jobs[size_t(i)]);
        }
        if (bad < 0) return;
        const int64_t found = i << token_bits | bad;
        for (int64_t seen = first_bad; found < seen && !first_bad.compare_exchange_weak(seen, found);) {
        }
    };
    pool_.run(int64_t(jobs.size()), scratch_, job);
    if (first_bad == LLONG_MAX) return {};
    return {first_bad >> token_bits, first_bad & ((int64_t{1} << token_bits) - 1)};
}

Status HostExecutor::quantize(std::span<const QuantizeParams> jobs) {
    auto job = [&](int64_t i, std::byte*) { kernels_.quantize(jobs[size_t(i)]); };
    pool_.run(int64_t(jobs.size()), scratch_, job);
    return {};
}

Status HostExecutor::attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) {
    auto job = [&](int64_t i, std::byte* scratch) { kernels_.attend(*params[size_t(i)], items[size_t(i)], scratch); };
    pool_.run(int64_t(items.size()), scratch_, job);
    return {};
}

// One job per counters, so that no two threads share them.
Status HostExecutor::mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    if (items.empty()) return {};
    auto job = [&](int64_t i, std::byte* scratch) {
        const auto below = [&](const MassItem& item) { return item.counters < i; };
        auto item = std::partition_point(items.begin(), items.end(), below);
        for (; item != items.end() && item->counters == i; ++item)
            kernels_.mass(*params[size_t(item - items.begin())], *item, scratch);
    };
    pool_.run(items.back().counters + 1, scratch_, job);
    return {};
}

void HostExecutor::finish_tile(const FinishCall& call, const FinishTile& tile) const {
    const int64_t row_floats = call.format->v_dim + 2, unit = call.out_dtype == Dtype::f32 ? 4 : 2;
    FinishParams finish = {};
    finish.format = call.format;
    finish.splits = tile.splits;
    finish.split_stride = tile.split_stride;
    finish.out_dtype = call.out_dtype;
    for (int64_t t = 0; t < tile.tokens; t++) {
        const int64_t row = tile.first_row + t;
        for (int64_t h = 0; h < call.q_heads; h++) {
            finish.states = tile.states + (t * call.q_heads + h) * row_floats;
            finish.sink_logit = call.sink_logits ? call.sink_logits + h : nullptr;
            finish.out = static_cast<std::byte*>(call.out) + (row * call.out_token_stride + h * call.out_head_stride) * unit;
            finish.out_lse = call.out_lse ? call.out_lse + row * call.q_heads + h : nullptr;
            finish.out_full_lse = call.full_lse ? call.full_lse + row * call.q_heads + h : nullptr;
            kernels_.finish(finish);
        }
    }
}

Status HostExecutor::finish(const FinishCall& call, std::span<const FinishTile> tiles) {
    auto job = [&](int64_t i, std::byte*) { finish_tile(call, tiles[size_t(i)]); };
    pool_.run(int64_t(tiles.size()), scratch_, job);
    return {};
}

}  // namespace kvc

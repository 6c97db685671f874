#include "core/attend/host_executor.h"

#include <algorithm>
#include <atomic>
#include <climits>

namespace kvc {
namespace {

// The first bad token of the first bad job, whichever thread finds it.
class FirstBad {
public:
    void note(int64_t job, int64_t token) {
        if (token < 0) return;
        const int64_t found = job << token_bits | token;
        for (int64_t seen = first_; found < seen && !first_.compare_exchange_weak(seen, found);) {
        }
    }
    BadToken get() const {
        if (first_ == LLONG_MAX) return {};
        return {first_ >> token_bits, first_ & ((int64_t{1} << token_bits) - 1)};
    }

private:
    static constexpr int token_bits = 20;  // of a job: far more than a record holds
    std::atomic<int64_t> first_{LLONG_MAX};
};

}  // namespace

BadToken HostExecutor::rehearse(std::span<const StoreParams> jobs) {
    FirstBad bad;
    auto job = [&](int64_t i, std::byte* scratch) {
        StoreParams store = jobs[size_t(i)];
        store.record = scratch;
        bad.note(i, kernels_.store(store));
    };
    pool_.run(int64_t(jobs.size()), scratch_, job);
    return bad.get();
}

// A group is one thread's: codes are made while what they are made of is in its cache.
Result<BadToken> HostExecutor::append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                                      std::span<const AppendGroup> groups) {
    FirstBad bad;
    auto job = [&](int64_t i, std::byte*) {
        const AppendGroup& group = groups[size_t(i)];
        for (int64_t s = group.first_store; s < group.first_store + group.stores; s++) {
            const int64_t token = kernels_.store(stores[size_t(s)]);
            bad.note(s, token);
            if (token >= 0) return;
        }
        for (int64_t c = group.first_code; c < group.first_code + group.codes; c++)
            kernels_.quantize(codes[size_t(c)]);
    };
    pool_.run(int64_t(groups.size()), scratch_, job);
    return bad.get();
}

Status HostExecutor::attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) {
    auto job = [&](int64_t i, std::byte* scratch) {
        const AttendItem& item = items[size_t(i)];
        const AttendParams& common = *params[size_t(i)];
        if (item.page_sums) std::fill_n(item.page_sums, item.runs() * item.tokens * common.group, PageSum{});
        kernels_.attend(common, item, scratch);
    };
    pool_.run(int64_t(items.size()), scratch_, job);
    return {};
}

// One job per counters, so that no two threads share them.
template <class Count>
void HostExecutor::count(std::span<const MassItem> items, const Count& count) {
    if (items.empty()) return;
    auto job = [&](int64_t i, std::byte* scratch) {
        const auto below = [&](const MassItem& item) { return item.counters < i; };
        auto item = std::partition_point(items.begin(), items.end(), below);
        for (; item != items.end() && item->counters == i; ++item)
            count(size_t(item - items.begin()), scratch);
    };
    pool_.run(items.back().counters + 1, scratch_, job);
}

Status HostExecutor::mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    count(items, [&](size_t i, std::byte* scratch) { kernels_.mass(*params[i], items[i], scratch); });
    return {};
}

Status HostExecutor::page_mass(int64_t group, std::span<const MassItem> items) {
    count(items, [&](size_t i, std::byte*) { kernels_.page_mass(group, items[i]); });
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

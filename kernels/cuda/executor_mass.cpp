// Attention mass: counters of the items in a block of their own, which the host adds to its own counters.
#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/cuda/executor.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

// An item's counters: of sinks, coded and window pages.
int64_t counter_count(const AttendItem& item) { return item.sink_tokens + page_tokens * (item.n_coded + item.n_window); }

void add(const int64_t* from, int64_t n, int64_t* to) {
    for (int64_t i = 0; i < n; i++) {
        to[i] += from[i];
    }
}

void add_item(const int64_t* counted, const MassItem& mass) {
    const AttendItem& item = mass.item;
    add(counted, item.sink_tokens, mass.sinks);
    counted += item.sink_tokens;
    add(counted, page_tokens * item.n_coded, mass.coded);
    counted += page_tokens * item.n_coded;
    add(counted, page_tokens * item.n_window, mass.window);
}

}  // namespace

// As many items at a time as the block has counters for. Waits for each time: mass is asked for by policies that decide on the host.
Status CudaExecutor::mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    const Selection selection(device_->ordinal());
    const int64_t most = workspace_->mass.bytes() / int64_t(sizeof(int64_t));
    for (size_t first = 0, end = 0; first < items.size(); first = end) {
        int64_t counters = 0;
        while (end < items.size() && counters + counter_count(items[end].item) <= most) {
            counters += counter_count(items[end++].item);
        }
        if (end == first) {
            return fail(Code::internal, "CUDA: counters of mass for which begin was not told of entries");
        }
        KVC_TRY(add_mass(params.subspan(first, end - first), items.subspan(first, end - first), counters));
    }
    return {};
}

Status CudaExecutor::add_mass(std::span<const AttendParams* const> params, std::span<const MassItem> items, int64_t counters) {
    int64_t bytes = round_up(bytes_of<MassItem>(int64_t(items.size())), 16) + rope_bytes(params[0]->rope);
    for (const MassItem& mass : items) {
        bytes += item_bytes(mass.item);
    }
    KVC_TRY(device_->order(*this));
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes);
    if (!piece.ok()) {
        return piece.status();
    }
    Tables tables(*piece);
    const MassItem* device_items = nullptr;
    MassItem* const host_items = tables.reserve(int64_t(items.size()), &device_items);
    auto* counted = reinterpret_cast<int64_t*>(workspace_->mass.data());
    for (size_t i = 0; i < items.size(); i++) {
        MassItem& mass = host_items[i];
        mass = items[i];
        mass.item = tables.rewrite(items[i].item);
        mass.sinks = counted;
        mass.coded = mass.sinks + mass.item.sink_tokens;
        mass.window = mass.coded + page_tokens * mass.item.n_coded;
        counted = mass.window + page_tokens * mass.item.n_window;
    }
    const std::optional<Rope> rope = tables.rewrite(params[0]->rope);
    KVC_TRY(upload(*piece));
    const int64_t counter_bytes = bytes_of<int64_t>(counters);
    if (counter_bytes > 0) {
        KVC_TRY(runtime::fill(workspace_->mass.data(), 0, counter_bytes, stream_));
    }
    const auto alike = [&](int64_t a, int64_t b) {
        return params[size_t(a)] == params[size_t(b)] && items[size_t(a)].item.prompt_class == items[size_t(b)].item.prompt_class;
    };
    for_each_run(int64_t(items.size()), alike, [&](int64_t first, int64_t n) {
        const AttendParams common = on_device(*params[size_t(first)], workspace_->slabs(), rope);
        int64_t most = 0;
        for (const MassItem& mass : items.subspan(size_t(first), size_t(n))) {
            most = std::max(most, mass.item.tokens);
        }
        launch_mass(common, device_items + first, int(n), most * common.group, items[size_t(first)].item.prompt_class, stream_);
    });
    KVC_TRY(runtime::launched());
    if (counter_bytes > 0) {
        KVC_TRY(runtime::copy_out(workspace_->mass_delivery.data(), workspace_->mass.data(), counter_bytes, stream_));
        KVC_TRY(runtime::synchronize(stream_));
    }
    const auto* arrived = reinterpret_cast<const int64_t*>(workspace_->mass_delivery.data());
    for (const MassItem& mass : items) {
        add_item(arrived, mass);
        arrived += counter_count(mass.item);
    }
    return {};
}

}  // namespace kvc::cuda

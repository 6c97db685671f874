// Attention mass: items count into a block of the workspace, which the host adds to its own counters when it has arrived.
#include "kernels/cuda/device.h"
#include "kernels/cuda/executor.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

// An item's counters: of sinks, coded and window pages.
int64_t counter_count(const AttendItem& item) { return item.sink_tokens + page_tokens * (item.n_coded + item.n_window); }

}  // namespace

// As many items at a time as the block has counters for. Waits only where it is full: what was counted comes with the next synchronize.
Status CudaExecutor::mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    const Selection selection(device_->ordinal());
    {
        std::lock_guard lock(device_->mutex());
        workspace_->mass.reuse();
    }
    for (size_t first = 0, end = 0; first < items.size(); first = end) {
        int64_t counters = 0;
        while (end < items.size() && workspace_->mass.has_room(counters + counter_count(items[end].item))) {
            counters += counter_count(items[end++].item);
        }
        if (end == first) {
            if (!workspace_->mass.any()) {
                return fail(Code::internal, "CUDA: counters of mass for which begin was not told of entries");
            }
            KVC_TRY(settle_mass());
            continue;
        }
        KVC_TRY(count_mass(params.subspan(first, end - first), items.subspan(first, end - first), counters));
    }
    return {};
}

Status CudaExecutor::settle_mass() {
    KVC_TRY(runtime::synchronize(stream_));
    std::lock_guard lock(device_->mutex());
    workspace_->mass.add_to_host();
    workspace_->mass.reuse();
    return {};
}

Status CudaExecutor::count_mass(std::span<const AttendParams* const> params, std::span<const MassItem> items, int64_t counters) {
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
    int64_t* counted = workspace_->mass.counters();
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
    KVC_TRY(workspace_->mass.clear(counters, stream_));
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
    KVC_TRY(workspace_->mass.fetch(counters, stream_));
    KVC_TRY(queued());
    std::lock_guard lock(device_->mutex());
    for (const MassItem& mass : items) {
        workspace_->mass.expect(mass);
    }
    return {};
}

}  // namespace kvc::cuda

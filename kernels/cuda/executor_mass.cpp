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

// Waits only where the block is full: what was counted comes with the next synchronize.
template <class Counters, class Count>
Status CudaExecutor::count_in_turns(std::span<const MassItem> items, const Counters& counters_of, const Count& count) {
    const Selection selection(device_->ordinal());
    {
        std::lock_guard lock(device_->mutex());
        workspace_->mass.reuse();
    }
    for (size_t first = 0, end = 0; first < items.size(); first = end) {
        int64_t counters = 0;
        while (end < items.size() && workspace_->mass.has_room(counters + counters_of(items[end].item))) {
            counters += counters_of(items[end++].item);
        }
        if (end == first) {
            if (!workspace_->mass.any()) {
                return fail(Code::internal, "CUDA: counters of mass for which begin was not told of entries");
            }
            KVC_TRY(settle_mass());
            continue;
        }
        KVC_TRY(count(first, end - first, counters));
    }
    return {};
}

Status CudaExecutor::mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    return count_in_turns(items, counter_count, [&](size_t first, size_t n, int64_t counters) {
        return count_mass(params.subspan(first, n), items.subspan(first, n), counters);
    });
}

Status CudaExecutor::page_mass(int64_t group, std::span<const MassItem> items) {
    const auto runs = [](const AttendItem& item) { return item.runs(); };
    return count_in_turns(
        items, runs, [&](size_t first, size_t n, int64_t counters) { return count_pages(group, items.subspan(first, n), counters); });
}

Status CudaExecutor::clear_page_sums(std::span<const AttendParams* const> params, std::span<const AttendItem> items) {
    PageSum *first = nullptr, *end = nullptr;
    for (size_t i = 0; i < items.size(); i++) {
        if (PageSum* const at = items[i].page_sums) {
            first = first ? first : at;
            end = at + items[i].runs() * items[i].tokens * params[i]->group;
        }
    }
    const int64_t n = end - first;
    return n > 0 ? runtime::fill(reinterpret_cast<std::byte*>(first), 0, bytes_of<PageSum>(n), stream_) : Status{};
}

// Needs nothing of an item but its sums: no tables are uploaded.
Status CudaExecutor::count_pages(int64_t group, std::span<const MassItem> items, int64_t counters) {
    KVC_TRY(device_->order(*this));
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes_of<PageMassJob>(int64_t(items.size())), stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    int64_t* counted = workspace_->mass.counters();
    int64_t most_runs = 0;
    for (size_t i = 0; i < items.size(); i++) {
        const AttendItem& item = items[i].item;
        const PageMassJob job = {item.page_sums, items[i].lse, items[i].lse_token_stride, item.tokens, item.runs(), counted};
        std::memcpy(piece->host + i * sizeof job, &job, sizeof job);
        counted += item.runs();
        most_runs = std::max(most_runs, item.runs());
    }
    KVC_TRY(upload(*piece));
    const auto* const table = reinterpret_cast<const PageMassJob*>(piece->device);
    for_each_run(int64_t(items.size()), all_alike,
                 [&](int64_t first, int64_t n) { launch_page_mass(group, table + first, int(n), most_runs, stream_); });
    KVC_TRY(workspace_->mass.fetch(counters, stream_));
    KVC_TRY(queued());
    std::lock_guard lock(device_->mutex());
    for (const MassItem& mass : items) {
        workspace_->mass.expect_runs(mass);
    }
    return {};
}

Status CudaExecutor::settle_mass() {
    KVC_TRY(device_->wait_for(stream_));
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
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes, stream_);
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

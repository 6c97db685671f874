// Attention mass: items count into a block of the workspace, which the host adds to its own counters when it has arrived.
#include "kernels/cuda/device.h"
#include "kernels/cuda/executor.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

constexpr int64_t most_pages = 1024;  // of a part, so that it finds room in any block

// What a part of a call takes, of counters and of an upload.
struct PartNeeds {
    int64_t counters, bytes;
};

struct PageRange {
    int64_t first, n;
};

// The next pages from `from` on, up to `end`, that are there.
template <class IsThere>
PageRange next_range(int64_t from, int64_t end, const IsThere& is_there) {
    while (from < end && !is_there(from)) {
        from++;
    }
    int64_t after = from;
    while (after < end && after - from < most_pages && is_there(after)) {
        after++;
    }
    return {from, after - from};
}

PageRange next_entries(const PageEntry* entries, int64_t from, int64_t end) {
    return next_range(from, end, [&](int64_t e) { return entries[e].record != 0; });
}

// The item's tokens of these pages alone.
MassItem part_of(const MassItem& mass, bool sinks, PageRange coded, PageRange window) {
    MassItem part = mass;
    AttendItem& item = part.item;
    item.sinks = sinks ? item.sinks : 0;
    item.sink_tokens = sinks ? item.sink_tokens : 0;
    item.coded += coded.first, item.n_coded = coded.n, item.coded_position += page_tokens * coded.first;
    item.window += window.first, item.n_window = window.n, item.window_position += page_tokens * window.first;
    part.coded += page_tokens * coded.first;
    part.window += page_tokens * window.first;
    return part;
}

int64_t counter_count(const AttendItem& item) { return item.sink_tokens + page_tokens * (item.n_coded + item.n_window); }

}  // namespace

// ---- parts: dropped pages keep their entries, and nothing of them is counted, cleared or copied ----

void MassParts::split(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    tokens.clear();
    common.clear();
    for (size_t i = 0; i < items.size(); i++) {
        const AttendItem& item = items[i].item;
        bool sinks = item.sinks != 0;
        PageRange coded = next_entries(item.coded, 0, item.n_coded), window = next_entries(item.window, 0, item.n_window);
        while (sinks || coded.n > 0 || window.n > 0) {
            tokens.push_back(part_of(items[i], sinks, coded, window));
            common.push_back(params[i]);
            sinks = false;
            coded = next_entries(item.coded, coded.first + coded.n, item.n_coded);
            window = next_entries(item.window, window.first + window.n, item.n_window);
        }
    }
}

void MassParts::split_by_pages(std::span<const MassItem> items) {
    pages.clear();
    for (const MassItem& mass : items) {
        const AttendItem& item = mass.item;
        const auto is_there = [&](int64_t run) {
            const int64_t entry = run - 1;
            return (run == 0               ? item.sinks
                    : entry < item.n_coded ? item.coded[entry].record
                                           : item.window[entry - item.n_coded].record) != 0;
        };
        for (PageRange range = next_range(0, item.runs(), is_there); range.n > 0;
             range = next_range(range.first + range.n, item.runs(), is_there)) {
            pages.push_back({&mass, range.first, range.n});
        }
    }
}

// Waits only where the block is full: what was counted comes with the next synchronize.
template <class NeedsOf, class Count>
Status CudaExecutor::count_in_turns(size_t n_parts, int64_t more_bytes, const NeedsOf& needs_of, const Count& count) {
    const OwnCall own(device_->ordinal());
    {
        std::lock_guard lock(device_->mutex());
        workspace_->mass.reuse();
    }
    for (size_t first = 0, end = 0; first < n_parts; first = end) {
        PartNeeds all = {0, more_bytes};
        for (; end < n_parts; end++) {
            const PartNeeds part = needs_of(end, end == first);
            if (!workspace_->mass.has_room(all.counters + part.counters) || all.bytes + part.bytes > workspace_->uploads.most()) {
                break;
            }
            all = {all.counters + part.counters, all.bytes + part.bytes};
        }
        if (end == first) {
            if (!workspace_->mass.any()) {
                return fail(Code::internal, "CUDA: counters of mass for which begin was not told of entries");
            }
            KVC_TRY(settle_mass());
            continue;
        }
        KVC_TRY(count(first, end - first, all.counters, all.bytes));
    }
    return {};
}

// Parts of one item follow each other, and read one table of counts.
Status CudaExecutor::mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) {
    MassParts& parts = workspace_->mass_parts;
    parts.split(params, items);
    const auto needs_of = [&](size_t i, bool first) {
        const AttendItem& item = parts.tokens[i].item;
        const bool anew = first || item.counts != parts.tokens[i - 1].item.counts;
        return PartNeeds{counter_count(item), bytes_of<MassItem>(1) + item_bytes(item, anew)};
    };
    const int64_t more_bytes = 16 + (items.empty() ? 0 : rope_bytes(params[0]->rope));
    return count_in_turns(parts.tokens.size(), more_bytes, needs_of, [&](size_t first, size_t n, int64_t counters, int64_t bytes) {
        return count_mass(std::span(parts.common).subspan(first, n), std::span(parts.tokens).subspan(first, n), counters, bytes);
    });
}

Status CudaExecutor::page_mass(int64_t group, std::span<const MassItem> items) {
    MassParts& parts = workspace_->mass_parts;
    parts.split_by_pages(items);
    const auto needs_of = [&](size_t i, bool) { return PartNeeds{parts.pages[i].n, bytes_of<PageMassJob>(1)}; };
    return count_in_turns(parts.pages.size(), 0, needs_of, [&](size_t first, size_t n, int64_t counters, int64_t) {
        return count_pages(group, std::span(parts.pages).subspan(first, n), counters);
    });
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
Status CudaExecutor::count_pages(int64_t group, std::span<const PagesOfMass> parts, int64_t counters) {
    KVC_TRY(device_->order(*this));
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes_of<PageMassJob>(int64_t(parts.size())), stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    int64_t* counted = workspace_->mass.counters();
    int64_t most_runs = 0;
    for (size_t i = 0; i < parts.size(); i++) {
        const auto& [mass, first, n] = parts[i];
        const AttendItem& item = mass->item;
        const PageMassJob job = {
            item.page_sums + first * item.tokens * group, mass->lse, mass->lse_token_stride, item.tokens, n, counted};
        std::memcpy(piece->host + i * sizeof job, &job, sizeof job);
        counted += n;
        most_runs = std::max(most_runs, n);
    }
    KVC_TRY(upload(*piece));
    const auto* const table = reinterpret_cast<const PageMassJob*>(piece->device);
    for_each_run(int64_t(parts.size()), all_alike,
                 [&](int64_t first, int64_t n) { launch_page_mass(group, table + first, int(n), most_runs, stream_); });
    KVC_TRY(workspace_->mass.fetch(counters, stream_));
    KVC_TRY(queued());
    std::lock_guard lock(device_->mutex());
    for (const PagesOfMass& pages : parts) {
        workspace_->mass.expect_pages(pages);
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

Status CudaExecutor::count_mass(std::span<const AttendParams* const> params, std::span<const MassItem> items, int64_t counters,
                                int64_t bytes) {
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
        const bool anew = i == 0 || items[i].item.counts != items[i - 1].item.counts;
        mass.item = tables.rewrite(items[i].item, anew ? nullptr : host_items[i - 1].item.counts);
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

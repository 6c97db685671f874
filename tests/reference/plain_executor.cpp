#include "tests/reference/plain_executor.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kvc_plain {
namespace {

constexpr int64_t alignment = 256;

int64_t padded(int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// What begin was not told of could not be served on a real device.
void expect(bool told, const char* what) {
    if (told) return;
    std::fprintf(stderr, "plain device: a call brings more %s than its step was begun for\n", what);
    std::abort();
}

// Counters of the host's, and what is to be added to them.
struct Sum {
    int64_t* to;
    std::vector<int64_t> values;
};

}  // namespace

struct PlainExecutor::State {
    explicit State(PlainDevice& owner) : device(owner) {}
    ~State() {
        if (memory) device.forget(memory);
    }

    PlainDevice& device;
    std::byte* memory = nullptr;    // of the device: states, lse, staging
    std::vector<std::byte*> slabs;  // as kernels find them
    std::vector<Sum> sums;
};

struct PlainExecutor::Copied {
    size_t scratch_bytes = 64;
    std::vector<kvc::AttendParams> params;
    std::vector<kvc::LayerFormat> formats;
    std::vector<kvc::Rope> ropes;
    std::vector<std::vector<double>> frequencies;
    std::vector<kvc::AttendItem> items;
    std::vector<std::vector<kvc::PageEntry>> coded, window;
    std::vector<std::vector<kvc::TokenCount>> counts;
};

PlainExecutor::PlainExecutor(PlainDevice& device, const kvc::DeviceStep& step) : device_(device), step_(step) {
    auto state = std::make_shared<State>(device);
    state->memory = device.allocate(float_bytes() + padded(step.in_bytes) + padded(step.out_bytes) + alignment);
    if (!state->memory) return;
    for (int64_t i = 0; i < step.slab_count; i++)
        state->slabs.push_back(device.near(step.slabs[i]));
    state_ = std::move(state);
    device.executors_.push_back(this);
}

PlainExecutor::~PlainExecutor() {
    if (!state_) return;
    std::lock_guard lock(device_.mutex_);
    std::erase(device_.executors_, this);
    // The memory goes once the queue has come so far.
    device_.launch([state = std::move(state_)] { state->sums.clear(); });
}

float* PlainExecutor::states() { return reinterpret_cast<float*>(state_->memory); }
float* PlainExecutor::lse() { return states() + step_.state_floats; }
kvc::PageSum* PlainExecutor::page_sums() {
    return reinterpret_cast<kvc::PageSum*>(states() + kvc::round_up(step_.state_floats + step_.lse_floats, 2));
}
int64_t PlainExecutor::float_bytes() const {
    return padded((step_.state_floats + step_.lse_floats + 2 * step_.page_sums + 64) * int64_t(sizeof(float)));
}

std::byte* PlainExecutor::stage(int64_t bytes) {
    const int64_t at = staged_;
    staged_ += padded(bytes);
    expect(staged_ <= padded(step_.in_bytes) + padded(step_.out_bytes) + alignment, "bytes of buffers");
    return state_->memory + float_bytes() + at;
}

kvc::Result<const void*> PlainExecutor::input(const void* buffer, int64_t bytes) {
    if (step_.device_buffers || bytes == 0) return buffer;
    std::byte* const at = stage(bytes);
    (void)device_.write(at, static_cast<const std::byte*>(buffer), bytes);
    return at;
}

kvc::Result<void*> PlainExecutor::output(void* buffer, int64_t bytes) {
    if (step_.device_buffers || bytes == 0) return buffer;
    std::byte* const at = stage(bytes);
    deliveries_.push_back({buffer, at, bytes});
    return at;
}

kvc::Status PlainExecutor::deliver() {
    const std::vector<Delivery> deliveries = std::exchange(deliveries_, {});
    if (deliveries.empty()) return {};
    std::lock_guard lock(device_.mutex_);
    if (kvc::Status waited = device_.counted_wait(); !waited.ok()) return waited;
    for (const Delivery& delivery : deliveries) {
        device_.reads_++;
        std::memcpy(delivery.to, device_.near(delivery.from), size_t(delivery.bytes));
    }
    return {};
}

kvc::Result<kvc::BadToken> PlainExecutor::append(std::span<const kvc::StoreParams> stores, std::span<const kvc::QuantizeParams> codes,
                                                 std::span<const kvc::AppendGroup>) {
    expect(int64_t(stores.size()) <= step_.store_jobs, "stores");
    expect(int64_t(codes.size()) <= step_.quantize_jobs, "codes");
    std::vector<kvc::StoreParams> jobs(stores.begin(), stores.end());
    std::vector<kvc::QuantizeParams> pages(codes.begin(), codes.end());
    for (kvc::StoreParams& job : jobs) {
        job.k = device_.near(static_cast<const std::byte*>(job.k));
        job.v = device_.near(static_cast<const std::byte*>(job.v));
        job.record = device_.near(job.record);
    }
    for (kvc::QuantizeParams& page : pages)
        page = {page.format, device_.near(page.window), device_.near(page.codes)};
    const kvc::LayerFormat format = stores.empty() ? kvc::LayerFormat{} : *stores[0].format;
    device_.launch([&device = device_, state = state_, jobs, pages, format]() mutable {
        for (kvc::StoreParams& job : jobs) {
            job.format = &format;
            const int64_t bad = device.kernels_.store(job);
            if (bad >= 0) device.bad_.push_back({job.tag, job.first_token + bad});
        }
        for (const kvc::QuantizeParams& page : pages)
            device.kernels_.quantize({&format, page.window, page.codes});
    });
    return kvc::BadToken{};
}

std::shared_ptr<PlainExecutor::Copied> PlainExecutor::copy_items(std::span<const kvc::AttendParams* const> params,
                                                                 std::vector<kvc::AttendItem> items) {
    expect(int64_t(items.size()) <= step_.items, "items");
    auto copied = std::make_shared<Copied>();
    const size_t n = items.size();
    copied->formats.reserve(n), copied->ropes.reserve(n), copied->frequencies.reserve(n);
    int64_t entries = 0, counts = 0;
    for (size_t i = 0; i < n; i++) {
        kvc::AttendParams param = *params[i];
        param.format = &copied->formats.emplace_back(*param.format);
        param.arena = {state_->slabs.data()};
        if (param.rope) {
            const std::vector<double>& frequencies =
                copied->frequencies.emplace_back(param.rope->frequencies, param.rope->frequencies + param.rope->dims / 2);
            param.rope = &copied->ropes.emplace_back(kvc::Rope{frequencies.data(), param.rope->dims, param.rope->interleaved});
        }
        copied->params.push_back(param);
        kvc::AttendItem& item = items[i];
        item.q = device_.near(static_cast<const std::byte*>(item.q));
        item.state = device_.near(item.state);
        item.page_sums = device_.near(item.page_sums);
        copied->coded.emplace_back(item.coded, item.coded + item.n_coded);
        copied->window.emplace_back(item.window, item.window + item.n_window);
        copied->counts.emplace_back(item.counts, item.counts + item.n_counts);
        item.coded = copied->coded.back().data();
        item.window = copied->window.back().data();
        item.counts = copied->counts.back().data();
        entries += item.n_coded + item.n_window;
        counts += item.n_counts;
        const auto bytes = size_t(device_.kernels_.scratch_bytes(*param.format, param.group, item.tokens)) + 64;
        copied->scratch_bytes = std::max(copied->scratch_bytes, bytes);
    }
    expect(entries <= step_.entries, "page entries");
    expect(counts <= step_.counts, "counts");
    copied->items = std::move(items);
    return copied;
}

namespace {

std::byte* aligned(std::vector<std::byte>& scratch) {
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    return scratch.data() + (64 - address % 64) % 64;
}

}  // namespace

kvc::Status PlainExecutor::attend(std::span<const kvc::AttendParams* const> params, std::span<const kvc::AttendItem> items) {
    auto copied = copy_items(params, {items.begin(), items.end()});
    device_.launch([&device = device_, state = state_, copied] {
        std::vector<std::byte> scratch(copied->scratch_bytes);
        for (size_t i = 0; i < copied->items.size(); i++) {
            const kvc::AttendItem& item = copied->items[i];
            if (item.page_sums) std::fill_n(item.page_sums, item.runs() * item.tokens * copied->params[i].group, kvc::PageSum{});
            device.kernels_.attend(copied->params[i], item, aligned(scratch));
        }
    });
    return {};
}

kvc::Status PlainExecutor::mass(std::span<const kvc::AttendParams* const> params, std::span<const kvc::MassItem> items) {
    std::vector<kvc::AttendItem> plain;
    for (const kvc::MassItem& item : items) {
        plain.push_back(item.item);
        plain.back().state = nullptr;
    }
    auto copied = copy_items(params, std::move(plain));
    device_.launch(
        [&device = device_, state = state_, copied, masses = std::vector<kvc::MassItem>(items.begin(), items.end())]() mutable {
            std::vector<std::byte> scratch(copied->scratch_bytes);
            for (size_t i = 0; i < masses.size(); i++) {
                kvc::MassItem& mass = masses[i];
                mass.item = copied->items[i];
                mass.lse = device.near(mass.lse);
                const auto apart = [&](int64_t*& to, int64_t n) {
                    state->sums.push_back({to, std::vector<int64_t>(size_t(n))});
                    to = state->sums.back().values.data();
                };
                state->sums.reserve(state->sums.size() + 3);
                apart(mass.sinks, mass.item.sinks ? mass.item.sink_tokens : 0);
                apart(mass.coded, mass.item.n_coded * 64);
                apart(mass.window, mass.item.n_window * 64);
                device.kernels_.mass(copied->params[i], mass, aligned(scratch));
                device.mass_passes_++;
            }
        });
    return {};
}

kvc::Status PlainExecutor::page_mass(int64_t group, std::span<const kvc::MassItem> items) {
    expect(int64_t(items.size()) <= step_.items, "items");
    device_.launch(
        [&device = device_, state = state_, group, masses = std::vector<kvc::MassItem>(items.begin(), items.end())]() mutable {
            for (kvc::MassItem& mass : masses) {
                mass.lse = device.near(mass.lse);
                mass.item.page_sums = device.near(mass.item.page_sums);
                const auto apart = [&](int64_t*& to, int64_t n) {
                    state->sums.push_back({to, std::vector<int64_t>(size_t(n))});
                    to = state->sums.back().values.data();
                };
                apart(mass.sinks, 1);
                apart(mass.coded, mass.item.n_coded);
                apart(mass.window, mass.item.n_window);
                device.kernels_.page_mass(group, mass);
                device.page_masses_++;
            }
        });
    return {};
}

void PlainExecutor::add_mass() {
    for (const Sum& sum : state_->sums) {
        for (size_t i = 0; i < sum.values.size(); i++)
            sum.to[i] += sum.values[i];
    }
    state_->sums.clear();
}

kvc::Status PlainExecutor::finish(const kvc::FinishCall& call, std::span<const kvc::FinishTile> tiles) {
    expect(int64_t(tiles.size()) <= step_.tiles, "tiles");
    const std::vector<float> logits(call.sink_logits, call.sink_logits ? call.sink_logits + call.q_heads : nullptr);
    kvc::FinishCall near = call;
    near.out = device_.near(static_cast<std::byte*>(call.out));
    near.out_lse = device_.near(call.out_lse);
    near.full_lse = device_.near(call.full_lse);
    std::vector<kvc::FinishTile> copied(tiles.begin(), tiles.end());
    for (kvc::FinishTile& tile : copied)
        tile.states = device_.near(tile.states);
    device_.launch([&device = device_, state = state_, near, logits, copied, format = *call.format] {
        const int64_t row_floats = format.v_dim + 2, unit = near.out_dtype == kvc::Dtype::f32 ? 4 : 2;
        for (const kvc::FinishTile& tile : copied) {
            for (int64_t i = 0; i < tile.tokens * near.q_heads; i++) {
                const int64_t row = tile.first_row + i / near.q_heads, head = i % near.q_heads, at = row * near.q_heads + head;
                device.kernels_.finish(
                    {&format, tile.states + i * row_floats, tile.splits, tile.split_stride,
                     logits.empty() ? nullptr : &logits[size_t(head)], near.out_dtype,
                     static_cast<std::byte*>(near.out) + (row * near.out_token_stride + head * near.out_head_stride) * unit,
                     near.out_lse ? near.out_lse + at : nullptr, near.full_lse ? near.full_lse + at : nullptr});
            }
        }
    });
    return {};
}

}  // namespace kvc_plain

#include "kernels/cuda/graph_executor.h"

#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

// A caller's capture that cannot hold a launch must not cost the cache.
Status recorded() {
    const Status status = runtime::launched();
    return status.ok() ? status : fail(Code::capture, status.message);
}

Status too_many(const char* what, int64_t n, int64_t most) {
    return n <= most ? Status{} : fail(Code::capture, "graph: ", n, " ", what, " in one call, and it has room for ", most);
}

}  // namespace

Status GraphCalls::mass(std::span<const AttendParams* const>, std::span<const MassItem>) {
    return fail(Code::internal, "graph: attention mass");
}

Status GraphCalls::page_mass(int64_t, std::span<const MassItem>) { return fail(Code::internal, "graph: attention mass"); }

Status GraphCalls::no_room() const {
    return fail(Code::capture, "graph: it was created for ", graph_.shape().attends, " attends in a step, and this is one more");
}

Result<int64_t> GraphCalls::take_bytes(int64_t bytes) {
    const int64_t at = used_, end = at + round_up(bytes, 16);
    if (end > graph_.memory().jobs_capacity) {
        return no_room();
    }
    used_ = end;
    return at;
}

// ---- recording ----

Result<BadToken> GraphRecorder::append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                                       std::span<const AppendGroup>) {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    const int64_t n_stores = layer().store_jobs, n_codes = layer().quantize_jobs;
    const Result<int64_t> stores_at = take<StoreJob>(n_stores), codes_at = take<QuantizeJob>(n_codes);
    if (!stores_at.ok() || !codes_at.ok()) {
        return no_room();
    }
    for_each_run(n_stores, all_alike, [&](int64_t first, int64_t n) {
        launch_store(stores[0], on_device<StoreJob>(*stores_at) + first, int(n), layer().tokens, stream_);
    });
    for_each_run(codes.empty() ? 0 : n_codes, all_alike, [&](int64_t first, int64_t n) {
        launch_quantize(*codes[0].format, on_device<QuantizeJob>(*codes_at) + first, int(n), stream_);
    });
    KVC_TRY(recorded());
    return BadToken{};
}

Status GraphRecorder::attend(std::span<const AttendParams* const> params, std::span<const AttendItem>) {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    const int64_t n_items = layer().items;
    entries_bytes_ += round_up(bytes_of<PageEntry>(layer().entries), 16);
    const Result<int64_t> items_at = take<AttendItem>(n_items * layer().rungs), rope_at = take<double>(layer().rope_pairs);
    if (!items_at.ok() || !rope_at.ok() || entries_bytes_ > graph_.memory().entries_capacity) {
        return no_room();
    }
    std::optional<Rope> rope;
    if (params[0]->rope) {
        rope = Rope{on_device<double>(*rope_at), params[0]->rope->dims, params[0]->rope->interleaved};
    }
    const AttendItem* items = on_device<AttendItem>(*items_at);
    for (const AttendParams* const group : params) {
        const AttendParams common = kvc::cuda::on_device(*group, graph_.memory().workspace.slabs(), rope);
        for_each_run(n_items, all_alike, [&](int64_t first, int64_t n) {
            launch_attend(common, items + first, int(n), layer().tokens * common.group, stream_);
        });
        items += n_items;
    }
    return recorded();
}

Status GraphRecorder::finish(const FinishCall& call, std::span<const FinishTile>) {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    const Result<int64_t> tiles_at = take<FinishTile>(layer().tiles), logits_at = take<float>(layer().q_heads);
    if (!tiles_at.ok() || !logits_at.ok()) {
        return no_room();
    }
    FinishCall device_call = call;
    device_call.sink_logits = call.sink_logits ? on_device<float>(*logits_at) : nullptr;
    for_each_run(layer().tiles, all_alike, [&](int64_t first, int64_t n) {
        launch_finish(device_call, on_device<FinishTile>(*tiles_at) + first, int(n), layer().tokens, stream_);
    });
    return recorded();
}

Status GraphRecorder::seal() {
    graph_.set_layout(used_);
    return {};
}

// ---- replay ----

// Jobs that a call does not bring stay zeros, and their kernels leave at once.
GraphReplay::GraphReplay(std::shared_ptr<CudaDevice> device, CudaGraph& graph, Stream stream, std::unique_ptr<BadTokens> bad)
    : GraphCalls(graph),
      QueuedStep(stream, nullptr, std::move(bad), true),
      device_(std::move(device)),
      host_(graph.slot()),
      entries_({host_ + graph.jobs_bytes(), graph.memory().tables.data() + graph.jobs_bytes(), graph.memory().entries_capacity}) {
    rungs_.reserve(16);
    std::memset(host_, 0, size_t(graph.jobs_bytes()));
}

GraphReplay::~GraphReplay() { device_->end(*this); }

Status GraphReplay::may_end() { return device_->may_end(*this); }

Status GraphReplay::write_stores(int64_t at, std::span<const StoreParams> jobs) {
    std::lock_guard lock(device_->mutex());  // a synchronize of another thread reads the tags
    for (const StoreParams& params : jobs) {
        const Result<unsigned long long*> word = bad_->word_of(params.tag);
        if (!word.ok()) {
            return word.status();
        }
        write(at, store_job(params, *word));
        at += int64_t(sizeof(StoreJob));
    }
    return {};
}

Result<BadToken> GraphReplay::append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                                     std::span<const AppendGroup>) {
    KVC_TRY(too_many("tokens' runs", int64_t(stores.size()), layer().store_jobs));
    KVC_TRY(too_many("pages to code", int64_t(codes.size()), layer().quantize_jobs));
    const Result<int64_t> stores_at = take<StoreJob>(layer().store_jobs), codes_at = take<QuantizeJob>(layer().quantize_jobs);
    if (!stores_at.ok() || !codes_at.ok()) {
        return no_room();
    }
    KVC_TRY(write_stores(*stores_at, stores));
    for (size_t i = 0; i < codes.size(); i++) {
        write(*codes_at + int64_t(i * sizeof(QuantizeJob)), QuantizeJob{codes[i].window, codes[i].codes});
    }
    return BadToken{};
}

// Items of a rung go where its launch reads them; rungs come in the order of their params.
Result<int64_t> GraphReplay::place_of(const AttendParams* params) {
    auto rung = std::find_if(rungs_.begin(), rungs_.end(), [&](const auto& known) { return known.first == params; });
    if (rung == rungs_.end()) {
        rung = rungs_.insert(rung, {params, 0});
    }
    KVC_TRY(too_many("forms of pages", int64_t(rungs_.size()), layer().rungs));
    KVC_TRY(too_many("parts of a form's pages", rung->second + 1, layer().items));
    return (rung - rungs_.begin()) * layer().items + rung->second++;
}

Status GraphReplay::attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) {
    const Result<int64_t> items_at = take<AttendItem>(layer().items * layer().rungs), rope_at = take<double>(layer().rope_pairs);
    if (!items_at.ok() || !rope_at.ok()) {
        return no_room();
    }
    rungs_.clear();
    for (size_t i = 0; i < items.size(); i++) {
        const Result<int64_t> place = place_of(params[i]);
        if (!place.ok()) {
            return place.status();
        }
        KVC_TRY(too_many("bytes of page tables", entries_.used() + item_bytes(items[i]), graph_.memory().entries_capacity));
        write(*items_at + *place * int64_t(sizeof(AttendItem)), entries_.rewrite(items[i]));
    }
    if (const Rope* const rope = items.empty() ? nullptr : params[0]->rope) {
        std::memcpy(host_ + *rope_at, rope->frequencies, size_t(bytes_of<double>(rope->dims / 2)));
    }
    return {};
}

Status GraphReplay::finish(const FinishCall& call, std::span<const FinishTile> tiles) {
    KVC_TRY(too_many("tiles", int64_t(tiles.size()), layer().tiles));
    const Result<int64_t> tiles_at = take<FinishTile>(layer().tiles), logits_at = take<float>(layer().q_heads);
    if (!tiles_at.ok() || !logits_at.ok()) {
        return no_room();
    }
    for (size_t i = 0; i < tiles.size(); i++) {
        write(*tiles_at + int64_t(i * sizeof(FinishTile)), tiles[i]);
    }
    if (call.sink_logits) {
        std::memcpy(host_ + *logits_at, call.sink_logits, size_t(bytes_of<float>(call.q_heads)));
    }
    return {};
}

Status GraphReplay::seal() {
    const OwnCall own(device_->ordinal());
    KVC_TRY(own.status());
    KVC_TRY(device_->order(*this));
    KVC_TRY(runtime::copy_in(graph_.memory().tables.data(), host_, graph_.jobs_bytes() + entries_.used(), stream_));
    KVC_TRY(runtime::record(graph_.slot_event(), stream_));
    graph_.take_slot();
    return {};
}

}  // namespace kvc::cuda

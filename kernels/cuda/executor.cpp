#include "kernels/cuda/executor.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/device.h"
#include "kernels/cuda/job_tables.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

bool stored_alike(const StoreParams& a, const StoreParams& b) {
    return a.format == b.format && a.dtype == b.dtype && a.k_stride == b.k_stride && a.v_stride == b.v_stride &&
           a.saturate == b.saturate;
}

int64_t element_bytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

int64_t table_bytes(std::span<const AttendItem> items) {
    int64_t bytes = round_up(bytes_of<AttendItem>(int64_t(items.size())), 16);
    for (const AttendItem& item : items) {
        bytes += item_bytes(item);
    }
    return bytes;
}

}  // namespace

CudaExecutor::CudaExecutor(std::shared_ptr<CudaDevice> device, Stream stream, bool device_buffers, std::unique_ptr<Workspace> workspace,
                           std::unique_ptr<BadTokens> bad)
    : QueuedStep(stream, std::move(workspace), std::move(bad), false), device_(std::move(device)), device_buffers_(device_buffers) {
    deliveries_.reserve(4);
    groups_.reserve(64);
}

CudaExecutor::~CudaExecutor() { device_->end(*this); }

Status CudaExecutor::may_end() { return device_->may_end(*this); }

void CudaExecutor::start(size_t) { forget_deliveries(); }

void CudaExecutor::forget_deliveries() {
    deliveries_.clear();
    delivery_bytes_ = 0;
}

Status CudaExecutor::upload(const UploadRing::Piece& piece) {
    KVC_TRY(workspace_->uploads.send(piece, stream_));
    return workspace_->uploads.mark(stream_);
}

Status CudaExecutor::queued() {
    std::lock_guard lock(device_->mutex());
    queued_ = true;
    return runtime::launched();
}

// ---- buffers of the host ----

Result<const void*> CudaExecutor::input(const void* buffer, int64_t bytes) {
    if (device_buffers_ || bytes == 0) {
        return buffer;
    }
    const OwnCall own(device_->ordinal());
    KVC_TRY(device_->order(*this));
    UploadRing& ring = workspace_->inputs;
    const Result<UploadRing::Piece> piece = ring.take(bytes, stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    std::memcpy(piece->host, buffer, size_t(bytes));
    KVC_TRY(ring.send(*piece, stream_));
    KVC_TRY(ring.mark(stream_));
    KVC_TRY(queued());
    return piece->device;
}

Result<void*> CudaExecutor::output(void* buffer, int64_t bytes) {
    if (device_buffers_ || bytes == 0) {
        return buffer;
    }
    const int64_t size = round_up(bytes, 256);
    if (delivery_bytes_ + size > workspace_->outputs.bytes()) {
        return fail(Code::internal, "CUDA: ", bytes, " bytes of output, which begin was not told of");
    }
    deliveries_.push_back({buffer, delivery_bytes_, bytes, 0, 0, 0, 0, 0, 0});
    delivery_bytes_ += size;
    return workspace_->outputs.data() + deliveries_.back().offset;
}

// Remembers which bytes of staged outputs the rows of this call are: what lies between rows is not ours to write.
void CudaExecutor::note_rows(const FinishCall& call, std::span<const FinishTile> tiles) {
    int64_t first = INT64_MAX, end = 0;
    for (const FinishTile& tile : tiles) {
        first = std::min(first, tile.first_row);
        end = std::max(end, tile.first_row + tile.tokens);
    }
    const int64_t unit = element_bytes(call.out_dtype);
    for (Delivery& d : deliveries_) {
        const void* const staged = workspace_->outputs.data() + d.offset;
        if (staged == call.out) {
            d.row_bytes = call.format->v_dim * unit;
            d.token_stride = call.out_token_stride * unit;
            d.head_stride = call.out_head_stride * unit;
            d.heads = call.q_heads;
        } else if (staged == call.out_lse) {
            d.row_bytes = d.token_stride = call.q_heads * int64_t(sizeof(float));
            d.heads = 1;
        } else {
            continue;
        }
        d.first_row = d.end_row == 0 ? first : std::min(d.first_row, first);
        d.end_row = std::max(d.end_row, end);
    }
}

Status CudaExecutor::take_deliveries() {
    KVC_TRY(device_->order(*this));
    KVC_TRY(runtime::copy_out(workspace_->delivery.data(), workspace_->outputs.data(), delivery_bytes_, stream_));
    KVC_TRY(device_->wait_for(stream_));
    for (const Delivery& d : deliveries_) {
        const std::byte* const from = workspace_->delivery.data() + d.offset;
        for (int64_t row = d.first_row; row < d.end_row; row++) {
            for (int64_t head = 0; head < d.heads; head++) {
                const int64_t at = row * d.token_stride + head * d.head_stride;
                std::memcpy(static_cast<std::byte*>(d.buffer) + at, from + at, size_t(d.row_bytes));
            }
        }
    }
    return {};
}

Status CudaExecutor::deliver() {
    if (deliveries_.empty()) {
        return {};
    }
    const OwnCall own(device_->ordinal());
    const Status status = take_deliveries();
    forget_deliveries();
    return status;
}

// ---- jobs ----

Result<BadToken> CudaExecutor::append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                                      std::span<const AppendGroup>) {
    KVC_TRY(queue_stores(stores));
    KVC_TRY(queue_codes(codes));
    return BadToken{};
}

Status CudaExecutor::queue_stores(std::span<const StoreParams> jobs) {
    if (jobs.empty()) {
        return {};
    }
    const OwnCall own(device_->ordinal());
    KVC_TRY(device_->order(*this));
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes_of<StoreJob>(int64_t(jobs.size())), stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    {
        std::lock_guard lock(device_->mutex());  // a synchronize of another thread reads the tags
        for (size_t i = 0; i < jobs.size(); i++) {
            const Result<unsigned long long*> word = bad_->word_of(jobs[i].tag);
            if (!word.ok()) {
                return word.status();
            }
            const StoreJob job = store_job(jobs[i], *word);
            std::memcpy(piece->host + i * sizeof job, &job, sizeof job);
        }
    }
    KVC_TRY(upload(*piece));
    const auto* const table = reinterpret_cast<const StoreJob*>(piece->device);
    const auto alike = [&](int64_t a, int64_t b) { return stored_alike(jobs[size_t(a)], jobs[size_t(b)]); };
    for_each_run(int64_t(jobs.size()), alike, [&](int64_t first, int64_t n) {
        const auto run = jobs.subspan(size_t(first), size_t(n));
        launch_store(run[0], table + first, int(n), most_tokens(run), stream_);
    });
    return queued();
}

Status CudaExecutor::queue_codes(std::span<const QuantizeParams> jobs) {
    if (jobs.empty()) {
        return {};
    }
    const OwnCall own(device_->ordinal());
    KVC_TRY(device_->order(*this));
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes_of<QuantizeJob>(int64_t(jobs.size())), stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    for (size_t i = 0; i < jobs.size(); i++) {
        const QuantizeJob job = {jobs[i].window, jobs[i].codes};
        std::memcpy(piece->host + i * sizeof job, &job, sizeof job);
    }
    KVC_TRY(upload(*piece));
    const auto* const table = reinterpret_cast<const QuantizeJob*>(piece->device);
    const auto alike = [&](int64_t a, int64_t b) { return jobs[size_t(a)].format == jobs[size_t(b)].format; };
    for_each_run(int64_t(jobs.size()), alike,
                 [&](int64_t first, int64_t n) { launch_quantize(*jobs[size_t(first)].format, table + first, int(n), stream_); });
    return queued();
}

// Items of one launch share their params and their class.
Status CudaExecutor::attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) {
    groups_.clear();
    for (size_t i = 0; i < items.size(); i++) {
        const Group group = {params[i], items[i].prompt_class};
        if (std::find(groups_.begin(), groups_.end(), group) == groups_.end()) {
            groups_.push_back(group);
        }
    }
    if (items.empty()) {
        return {};
    }
    const OwnCall own(device_->ordinal());
    KVC_TRY(device_->order(*this));
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(table_bytes(items) + rope_bytes(params[0]->rope), stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    // Items of one group follow each other in the upload, whatever their order was.
    Tables tables(*piece);
    const AttendItem* device_items = nullptr;
    AttendItem* const first_item = tables.reserve(int64_t(items.size()), &device_items);
    AttendItem* item = first_item;
    for (Group& group : groups_) {
        for (size_t i = 0; i < items.size(); i++) {
            if (params[i] == group.params && items[i].prompt_class == group.prompt_class) {
                *item++ = tables.rewrite(items[i]);
            }
        }
        group.end = item - first_item;
    }
    const std::optional<Rope> rope = tables.rewrite(params[0]->rope);
    KVC_TRY(upload(*piece));
    KVC_TRY(clear_page_sums(params, items));
    int64_t start = 0;
    for (const Group& group : groups_) {
        const AttendParams common = on_device(*group.params, workspace_->slabs(), rope);
        const auto launch = group.prompt_class ? launch_prompt : launch_attend;
        for_each_run(group.end - start, all_alike, [&](int64_t first, int64_t n) {
            const std::span<const AttendItem> run(first_item + start + first, size_t(n));
            launch(common, device_items + start + first, int(n), most_tokens(run) * common.group, stream_);
        });
        start = group.end;
    }
    return queued();
}

Status CudaExecutor::finish(const FinishCall& call, std::span<const FinishTile> tiles) {
    if (tiles.empty()) {
        return {};
    }
    const OwnCall own(device_->ordinal());
    KVC_TRY(device_->order(*this));
    const int64_t n_logits = call.sink_logits ? call.q_heads : 0;
    const int64_t bytes = bytes_of<FinishTile>(int64_t(tiles.size())) + bytes_of<float>(n_logits) + 2 * 16;
    const Result<UploadRing::Piece> piece = workspace_->uploads.take(bytes, stream_);
    if (!piece.ok()) {
        return piece.status();
    }
    Tables tables(*piece);
    const FinishTile* const device_tiles = tables.add(tiles.data(), int64_t(tiles.size()));
    FinishCall device_call = call;
    device_call.sink_logits = tables.add(call.sink_logits, n_logits);
    KVC_TRY(upload(*piece));
    for_each_run(int64_t(tiles.size()), all_alike, [&](int64_t first, int64_t n) {
        launch_finish(device_call, device_tiles + first, int(n), most_tokens(tiles.subspan(size_t(first), size_t(n))), stream_);
    });
    note_rows(call, tiles);
    return queued();
}

}  // namespace kvc::cuda

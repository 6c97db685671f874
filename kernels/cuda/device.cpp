#include "kernels/cuda/device.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/records.h"

namespace kvc::cuda {
namespace {

constexpr int64_t staging_bytes = int64_t{4} << 20, staging_piece = int64_t{1} << 20;
constexpr size_t most_ended = 64;  // steps whose findings are on their way to the host
constexpr int least_major = 8;     // compute capability that the kernels are compiled for

}  // namespace

Selection::Selection(int ordinal) : before_(runtime::selected()), now_(ordinal) {
    if (before_ != now_) {
        status_ = runtime::select(now_);
    }
}

Selection::~Selection() {
    // Who has no device selected gets none back: there is no way to say so, and the next call selects one anyway.
    if (before_ != now_ && before_ >= 0) {
        (void)runtime::select(before_).ok();
    }
}

Result<std::shared_ptr<Device>> CudaDevice::open(int ordinal) {
    std::shared_ptr<CudaDevice> device(new CudaDevice(ordinal));
    KVC_TRY(device->create());
    return std::shared_ptr<Device>(std::move(device));
}

Status CudaDevice::create() {
    const Selection selection(ordinal_);
    KVC_TRY(selection.status());
    const Result<runtime::Properties> found = runtime::properties(ordinal_);
    if (!found.ok()) {
        return found.status();
    }
    name_ = found->name;
    if (found->major < least_major) {
        return fail(Code::unsupported, "CUDA device ", ordinal_, " (", name_, "): compute capability ", found->major, ".", found->minor,
                    " is below ", least_major, ".0");
    }
    const Result<Stream> stream = runtime::create_stream();
    if (!stream.ok()) {
        return stream.status();
    }
    stream_ = *stream;
    for (Event* const event : {&order_event_, &gather_event_}) {
        const Result<Event> created = runtime::create_event();
        if (!created.ok()) {
            return created.status();
        }
        *event = *created;
    }
    staging_ = std::make_unique<UploadRing>();
    KVC_TRY(staging_->create(staging_bytes, false));
    return create_recoder();
}

CudaDevice::~CudaDevice() {
    const Selection selection(ordinal_);
    if (stream_) {
        runtime::destroy_stream(stream_);
    }
    for (const Event event : {order_event_, gather_event_}) {
        if (event) {
            runtime::destroy_event(event);
        }
    }
    for (const auto& [block, bytes] : blocks_) {
        runtime::release(block);
    }
    for (const auto& [bytes, block] : released_) {
        runtime::release(block);
    }
    // Members that hold what is the device's go while it is selected.
    staging_.reset();
    recode_uploads_.reset();
    idle_.clear();
    outgrown_.clear();
    idle_bad_.clear();
    ended_bad_.clear();
}

const KernelTable& CudaDevice::records() const { return record_table(); }

// ---- order ----

Status CudaDevice::gather_one(CudaExecutor& executor) {
    if (executor.queued_ && executor.stream_ != stream_) {
        KVC_TRY(runtime::record(gather_event_, executor.stream_));
        KVC_TRY(runtime::wait(stream_, gather_event_));
    }
    executor.queued_ = false;
    return {};
}

Status CudaDevice::gather() {
    KVC_TRY(lost_);
    for (CudaExecutor* const executor : executors_) {
        KVC_TRY(gather_one(*executor));
    }
    return {};
}

Status CudaDevice::advance() {
    KVC_TRY(runtime::record(order_event_, stream_));
    order_++;
    return {};
}

Status CudaDevice::order(CudaExecutor& executor) {
    std::lock_guard lock(mutex_);
    KVC_TRY(lost_);
    if (runtime::selected() != ordinal_) {
        return fail(Code::device, "CUDA: device ", ordinal_, " cannot be selected");
    }
    if (executor.stream_ != stream_ && executor.seen_order_ != order_) {
        KVC_TRY(runtime::wait(executor.stream_, order_event_));
    }
    executor.seen_order_ = order_;
    executor.queued_ = true;
    return {};
}

// ---- memory ----

std::byte* CudaDevice::allocate(int64_t bytes) {
    std::lock_guard lock(mutex_);
    const Selection selection(ordinal_);
    if (!selection.status().ok()) {
        return nullptr;
    }
    std::byte* block = nullptr;
    if (const auto same = released_.find(bytes); same != released_.end()) {
        block = same->second;
        released_.erase(same);
    } else {
        Result<std::byte*> fresh = runtime::allocate(bytes);
        if (!fresh.ok() && !released_.empty() && gather().ok() && runtime::synchronize(stream_).ok()) {
            free_released();
            fresh = runtime::allocate(bytes);
        }
        block = fresh.ok() ? *fresh : nullptr;
    }
    if (block) {
        blocks_[block] = bytes;
    }
    return block;
}

// Kernels that were queued may read it yet, and freeing would wait for them; so it is kept for the next who asks.
void CudaDevice::release(std::byte* block) {
    std::lock_guard lock(mutex_);
    if (const auto found = blocks_.find(block); found != blocks_.end()) {
        released_.emplace(found->second, block);
        blocks_.erase(found);
    }
}

void CudaDevice::free_released() {
    for (const auto& [bytes, block] : released_) {
        runtime::release(block);
    }
    released_.clear();
}

Status CudaDevice::write(std::byte* to, const std::byte* from, int64_t bytes) {
    std::lock_guard lock(mutex_);
    const Selection selection(ordinal_);
    KVC_TRY(selection.status());
    KVC_TRY(gather());
    if (bytes > staging_piece && is_pinned(from, bytes)) {
        KVC_TRY(runtime::copy_in(to, from, bytes, stream_));
        KVC_TRY(advance());
        return runtime::synchronize(stream_);
    }
    for (int64_t at = 0; at < bytes; at += staging_piece) {
        Result<UploadRing::Piece> piece = staging_->take(std::min(staging_piece, bytes - at));
        if (!piece.ok()) {
            return piece.status();
        }
        std::memcpy(piece->host, from + at, size_t(piece->bytes));
        piece->device = to + at;
        KVC_TRY(staging_->send(*piece, stream_));
        KVC_TRY(staging_->mark(stream_));
    }
    return advance();
}

Status CudaDevice::read(const std::byte* from, std::byte* to, int64_t bytes) {
    std::lock_guard lock(mutex_);
    const Selection selection(ordinal_);
    KVC_TRY(selection.status());
    KVC_TRY(gather());
    if (bytes > 0 && is_pinned(to, bytes)) {
        KVC_TRY(runtime::copy_out(to, from, bytes, stream_));
        return runtime::synchronize(stream_);
    }
    for (int64_t at = 0; at < bytes; at += staging_piece) {
        const Result<UploadRing::Piece> piece = staging_->take(std::min(staging_piece, bytes - at));
        if (!piece.ok()) {
            return piece.status();
        }
        KVC_TRY(runtime::copy_out(piece->host, from + at, piece->bytes, stream_));
        KVC_TRY(staging_->mark(stream_));
        KVC_TRY(runtime::synchronize(stream_));
        std::memcpy(to + at, piece->host, size_t(piece->bytes));
    }
    return {};
}

Status CudaDevice::copy(const std::byte* from, std::byte* to, int64_t bytes) {
    std::lock_guard lock(mutex_);
    const Selection selection(ordinal_);
    KVC_TRY(selection.status());
    KVC_TRY(gather());
    if (bytes > 0) {
        KVC_TRY(runtime::copy(to, from, bytes, stream_));
    }
    return advance();
}

void* CudaDevice::allocate_pinned(int64_t bytes) {
    std::lock_guard lock(mutex_);
    const Selection selection(ordinal_);
    if (!selection.status().ok()) {
        return nullptr;
    }
    const Result<std::byte*> block = runtime::allocate_pinned(bytes);
    if (!block.ok()) {
        return nullptr;
    }
    pinned_[*block] = bytes;
    return *block;
}

void CudaDevice::release_pinned(void* block) {
    std::lock_guard lock(mutex_);
    const Selection selection(ordinal_);
    if (pinned_.erase(static_cast<std::byte*>(block)) > 0) {
        runtime::release_pinned(static_cast<std::byte*>(block));
    }
}

bool CudaDevice::is_pinned(const void* p, int64_t bytes) const {
    const auto* const first = static_cast<const std::byte*>(p);
    auto block = pinned_.upper_bound(first);
    if (block == pinned_.begin()) {
        return false;
    }
    block--;
    return first + bytes <= block->first + block->second;
}

// ---- steps ----

Result<std::unique_ptr<Workspace>> CudaDevice::workspace_for(const DeviceStep& step) {
    const WorkspaceSizes sizes = WorkspaceSizes::of(step);
    for (size_t i = 0; i < idle_.size(); i++) {
        if (idle_[i]->sizes().covers(sizes)) {
            std::unique_ptr<Workspace> found = std::move(idle_[i]);
            idle_.erase(idle_.begin() + std::ptrdiff_t(i));
            return found;
        }
    }
    auto workspace = std::make_unique<Workspace>();
    KVC_TRY(workspace->create(sizes.rounded()));
    // The new one takes the place of one that was too small; kernels may still be at work there.
    if (!idle_.empty()) {
        outgrown_.push_back(std::move(idle_.back()));
        idle_.pop_back();
    }
    return workspace;
}

Result<std::unique_ptr<BadTokens>> CudaDevice::bad_tokens_for(const DeviceStep& step) {
    for (size_t i = 0; i < idle_bad_.size(); i++) {
        if (idle_bad_[i]->most_tags() >= step.store_jobs) {
            std::unique_ptr<BadTokens> found = std::move(idle_bad_[i]);
            idle_bad_.erase(idle_bad_.begin() + std::ptrdiff_t(i));
            return found;
        }
    }
    auto bad = std::make_unique<BadTokens>();
    KVC_TRY(bad->create(round_up(step.store_jobs, 512)));
    return bad;
}

// Takes in what ended steps have found, as far as it has come; all of it if asked to wait.
Status CudaDevice::collect(bool wait) {
    while (!ended_bad_.empty()) {
        BadTokens& oldest = *ended_bad_.front();
        if (wait || ended_bad_.size() > most_ended) {
            KVC_TRY(oldest.wait());
        } else {
            const Result<bool> here = oldest.fetched();
            if (!here.ok()) {
                return here.status();
            }
            if (!*here) {
                return {};
            }
        }
        oldest.report(&found_);
        idle_bad_.push_back(std::move(ended_bad_.front()));
        ended_bad_.erase(ended_bad_.begin());
    }
    return {};
}

// A caller's mistake, which must not cost the device: launches would fail, and what the step had queued could not be waited for.
Status CudaDevice::check_stream(Stream stream) const {
    const Result<int> found = runtime::device_of(stream);
    if (!found.ok()) {
        return found.status();
    }
    return *found == ordinal_
               ? Status{}
               : fail(Code::argument, "step: the stream is of CUDA device ", *found, ", and the cache of device ", ordinal_);
}

Result<std::unique_ptr<DeviceExecutor>> CudaDevice::begin(const DeviceStep& step) {
    const Selection selection(ordinal_);
    KVC_TRY(selection.status());
    if (step.stream) {
        KVC_TRY(check_stream(static_cast<Stream>(step.stream)));
    }
    std::unique_ptr<CudaExecutor> executor;
    const Status prepared = [&]() -> Status {
        std::lock_guard lock(mutex_);
        KVC_TRY(lost_);
        KVC_TRY(collect(false));
        Result<std::unique_ptr<Workspace>> workspace = workspace_for(step);
        if (!workspace.ok()) {
            return workspace.status();
        }
        Result<std::unique_ptr<BadTokens>> bad = bad_tokens_for(step);
        if (!bad.ok()) {
            idle_.push_back(std::move(*workspace));
            return bad.status();
        }
        const Stream stream = step.stream ? static_cast<Stream>(step.stream) : stream_;
        executor =
            std::make_unique<CudaExecutor>(shared_from_this(), stream, step.device_buffers, std::move(*workspace), std::move(*bad));
        executors_.push_back(executor.get());
        // Streams of ended steps were joined to the device's own, which this step's now waits for.
        KVC_TRY(advance());
        if (stream != stream_) {
            KVC_TRY(runtime::wait(stream, order_event_));
        }
        executor->seen_order_ = order_;
        executor->queued_ = true;
        KVC_TRY(executor->bad_->reset(stream));
        return executor->workspace_->set_slabs(step.slabs, step.slab_count, stream);
    }();
    // An executor that could not be prepared ends here, outside of the lock.
    if (!prepared.ok()) {
        return prepared;
    }
    return std::unique_ptr<DeviceExecutor>(std::move(executor));
}

void CudaDevice::end(CudaExecutor& executor) {
    const Selection selection(ordinal_);
    std::lock_guard lock(mutex_);
    std::erase(executors_, &executor);
    const Status left = [&]() -> Status {
        KVC_TRY(selection.status());
        if (executor.bad_->any()) {
            executor.queued_ = true;
            KVC_TRY(executor.bad_->fetch(executor.stream_));
        }
        return gather_one(executor);
    }();
    if (!left.ok() && lost_.ok()) {
        lost_ = left;  // nobody can wait for what the step has queued, or knows what its stores have found
    }
    (executor.bad_->any() && left.ok() ? ended_bad_ : idle_bad_).push_back(std::move(executor.bad_));
    executor.workspace_->mass.forget();
    idle_.push_back(std::move(executor.workspace_));
}

Status CudaDevice::synchronize(std::vector<BadStore>* bad) {
    const Selection selection(ordinal_);
    std::lock_guard lock(mutex_);
    KVC_TRY(selection.status());
    KVC_TRY(lost_);
    for (CudaExecutor* const executor : executors_) {
        if (executor->bad_->any()) {
            executor->queued_ = true;
            KVC_TRY(executor->bad_->fetch(executor->stream_));
        }
    }
    KVC_TRY(gather());
    KVC_TRY(runtime::synchronize(stream_));
    KVC_TRY(collect(true));
    for (CudaExecutor* const executor : executors_) {
        executor->bad_->report(&found_);
        executor->workspace_->mass.add_to_host();
    }
    bad->insert(bad->end(), found_.begin(), found_.end());
    found_.clear();
    outgrown_.clear();
    free_released();
    return {};
}

}  // namespace kvc::cuda

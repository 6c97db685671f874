#include "kernels/cuda/device.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/any_kernel.h"
#include "kernels/cuda/place.h"
#include "kernels/cuda/records.h"
#include "kernels/cuda/shared_memory.cuh"

namespace kvc::cuda {
namespace {

constexpr int64_t staging_bytes = int64_t{4} << 20, staging_piece = int64_t{1} << 20;
constexpr int least_major = 8;  // compute capability that the kernels are compiled for

// Of blocks and their bytes, the one that the address is in; nullptr: none.
template <class Blocks>
auto block_at(const Blocks& blocks, const std::byte* p) {
    auto block = blocks.upper_bound(const_cast<std::byte*>(p));
    const bool inside = block != blocks.begin() && (block--, p < block->first + block->second);
    return inside ? &*block : nullptr;
}

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

OwnCall::OwnCall(int ordinal) : selection_(ordinal), status_(selection_.status()) {
    if (!status_.ok()) {
        return;
    }
    const Result<CaptureMode> before = runtime::exchange_capture_mode(CaptureMode::relaxed);
    if (before.ok()) {
        before_ = *before;
    } else {
        status_ = before.status();
    }
}

OwnCall::~OwnCall() {
    if (before_ != CaptureMode::relaxed) {
        (void)runtime::exchange_capture_mode(before_).ok();
    }
}

Result<std::shared_ptr<Device>> CudaDevice::open(int ordinal, DeviceHeap heap, const MemorySource& source) {
    std::shared_ptr<CudaDevice> device(new CudaDevice(ordinal));
    KVC_TRY(device->create(heap, source));
    return std::shared_ptr<Device>(std::move(device));
}

// A launch without code for the device would only fail, and what fails on a device costs the cache: so it is asked for first.
Status CudaDevice::check_code() {
    const Result<runtime::Properties> found = runtime::properties(ordinal_);
    if (!found.ok()) {
        return found.status();
    }
    name_ = found->name;
    if (found->major < least_major) {
        return fail(Code::unsupported, "CUDA device ", ordinal_, " (", name_, "): compute capability ", found->major, ".", found->minor,
                    " is below ", least_major, ".0");
    }
    const Result<int> code = runtime::code_of(any_kernel());
    const Status has = code.ok() ? Status{} : code.status();
    const int asked = code.ok() ? block_shared_asked(*code) : 0;
    if (has.code != Code::unsupported && asked <= found->block_shared) {
        return has;
    }
    // Another architecture's PTX runs, but its blocks can be larger than the device's.
    const std::string reason = code.ok() ? "the PTX for sm_" + std::to_string(*code) + " takes up to " + std::to_string(asked / 1024) +
                                               " KB of shared memory a block, and the device has " +
                                               std::to_string(found->block_shared / 1024)
                                         : has.message;
    const int architecture = 10 * found->major + found->minor;
    return fail(Code::unsupported, "CUDA device ", ordinal_, " (", name_, ") is sm_", architecture, ", and this build (",
                device_build(), ") has no code for it; rebuild with KVC_CUDA_ARCHS=", architecture, " (", reason, ")");
}

Status CudaDevice::create(DeviceHeap heap, const MemorySource& source) {
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(check_code());
    const Result<Stream> stream = runtime::create_stream();
    if (!stream.ok()) {
        return stream.status();
    }
    stream_ = *stream;
    KVC_TRY(heap_.open(ordinal_, heap, source, stream_));
    for (Event* const event : {&order_event_, &gather_event_}) {
        const Result<Event> created = runtime::create_event();
        if (!created.ok()) {
            return created.status();
        }
        *event = *created;
    }
    staging_ = std::make_unique<UploadRing>();
    KVC_TRY(staging_->create(staging_bytes, 0, &waits_));
    return create_recoder();
}

CudaDevice::~CudaDevice() {
    const OwnCall own(ordinal_);
    if (!lost_.ok() && !heap_.release_waits()) {
        (void)runtime::synchronize_device().ok();  // no event stands for what the streams of steps still hold
    }
    if (stream_) {
        runtime::destroy_stream(stream_);
    }
    heap_.settle();
    for (const Event event : {order_event_, gather_event_}) {
        if (event) {
            runtime::destroy_event(event);
        }
    }
    for (const auto& [block, bytes] : blocks_) {
        heap_.release(block, bytes);
    }
    for (const auto& [block, bytes] : pinned_) {
        runtime::release_pinned(const_cast<std::byte*>(block));
    }
    free_released();
    // Members that hold what is the device's go while it is selected.
    staging_.reset();
    room_.host = PinnedBlock();
    recode_uploads_.reset();
    idle_.clear();
    idle_bad_.clear();
    ended_bad_.clear();
    heap_.close();
}

const KernelTable& CudaDevice::records() const { return record_table(); }

// ---- order ----

// Else the device's stream would join the capture, or a launch of the step be recorded in it.
Status CudaDevice::check_uncaptured(const QueuedStep& step) const {
    if (step.stream_ == stream_) {
        return {};
    }
    const Result<bool> capturing = runtime::is_capturing(step.stream_);
    if (!capturing.ok()) {
        return capturing.status();
    }
    return *capturing ? fail(Code::capture, "step: its stream is being captured, and the step was begun before") : Status{};
}

Status CudaDevice::gather_one(QueuedStep& step) {
    if ((step.queued_ || step.unseen_) && step.stream_ != stream_) {
        KVC_TRY(check_uncaptured(step));
        KVC_TRY(runtime::record(gather_event_, step.stream_));
        KVC_TRY(runtime::wait(stream_, gather_event_));
    }
    step.queued_ = false;
    return {};
}

Status CudaDevice::gather() {
    KVC_TRY(lost_);
    for (QueuedStep* const step : steps_) {
        KVC_TRY(gather_one(*step));
    }
    return {};
}

Status CudaDevice::advance() {
    KVC_TRY(runtime::record(order_event_, stream_));
    order_++;
    return {};
}

Status CudaDevice::order(QueuedStep& step) {
    std::lock_guard lock(mutex_);
    KVC_TRY(lost_);
    if (runtime::selected() != ordinal_) {
        return fail(Code::device, "CUDA: device ", ordinal_, " cannot be selected");
    }
    KVC_TRY(check_uncaptured(step));
    if (step.stream_ != stream_ && step.seen_order_ != order_) {
        KVC_TRY(runtime::wait(step.stream_, order_event_));
    }
    step.seen_order_ = order_;
    step.queued_ = true;
    return {};
}

// ---- memory ----

// Of a pool, what comes is only behind the device's stream: whatever is queued from now on runs behind that, too.
std::byte* CudaDevice::allocate_block(int64_t bytes, bool* used) {
    std::byte* block = nullptr;
    *used = true;
    if (const auto same = released_.find(bytes); same != released_.end()) {
        block = same->second;
        released_.erase(same);
    } else {
        *used = heap_.ordered();
        Result<std::byte*> fresh = heap_.allocate(bytes);
        if (!fresh.ok() && fresh.status().code == Code::no_memory && reclaim()) {
            fresh = heap_.allocate(bytes);
        }
        block = fresh.ok() ? *fresh : nullptr;
    }
    if (block) {
        blocks_[block] = bytes;
    }
    if (block && heap_.ordered() && !advance().ok()) {
        release_block(block);
        return nullptr;
    }
    return block;
}

std::byte* CudaDevice::allocate(int64_t bytes) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    bool used = false;
    return own.status().ok() ? allocate_block(bytes, &used) : nullptr;
}

std::byte* CudaDevice::allocate_for_caller(int64_t bytes) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    bool used = false;
    std::byte* const block = own.status().ok() ? allocate_block(bytes, &used) : nullptr;
    if (block && used && !(gather().ok() && waits_.for_stream(stream_).ok())) {
        release_block(block);
        return nullptr;
    }
    return block;
}

void CudaDevice::release(std::byte* block) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    release_block(block);
}

// Kernels that were queued may read it yet. A pool takes it back behind them; the driver would wait for them, so it is kept for the next
// who asks.
void CudaDevice::release_block(std::byte* block) {
    const auto found = blocks_.find(block);
    if (found == blocks_.end()) {
        return;
    }
    if (heap_.ordered() && runtime::selected() == ordinal_ && gather().ok()) {
        heap_.release(block, found->second);
    } else {
        released_.emplace(found->second, block);
    }
    blocks_.erase(found);
}

void CudaDevice::free_released() {
    outgrown_.clear();
    retired_.clear();
    for (const auto& [bytes, block] : released_) {
        heap_.release(block, bytes);
    }
    released_.clear();
}

bool CudaDevice::reclaim() {
    const bool idle = !idle_.empty() || !idle_bad_.empty();
    const bool kept = heap_.ordered() || idle || !released_.empty() || !outgrown_.empty() || !retired_.empty();
    if (!kept || !gather().ok() || !waits_.for_stream(stream_).ok()) {
        return false;
    }
    idle_.clear();
    idle_bad_.clear();
    free_released();
    return heap_.trim().ok();
}

Status CudaDevice::with_memory(const std::function<Status()>& attempt) {
    const Status first = attempt();
    return first.code == Code::no_memory && reclaim() ? attempt() : first;
}

Status CudaDevice::write(std::byte* to, const std::byte* from, int64_t bytes) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(gather());
    if (bytes > staging_piece && is_pinned(from, bytes)) {
        KVC_TRY(runtime::copy_in(to, from, bytes, stream_));
        KVC_TRY(advance());
        return waits_.for_stream(stream_);
    }
    for (int64_t at = 0; at < bytes; at += staging_piece) {
        Result<UploadRing::Piece> piece = staging_->take(std::min(staging_piece, bytes - at), stream_);
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
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(gather());
    if (bytes > 0 && is_pinned(to, bytes)) {
        KVC_TRY(runtime::copy_out(to, from, bytes, stream_));
        return waits_.for_stream(stream_);
    }
    for (int64_t at = 0; at < bytes; at += staging_piece) {
        const Result<UploadRing::Piece> piece = staging_->take(std::min(staging_piece, bytes - at), stream_);
        if (!piece.ok()) {
            return piece.status();
        }
        KVC_TRY(runtime::copy_out(piece->host, from + at, piece->bytes, stream_));
        KVC_TRY(staging_->mark(stream_));
        KVC_TRY(waits_.for_stream(stream_));
        std::memcpy(to + at, piece->host, size_t(piece->bytes));
    }
    return {};
}

Status CudaDevice::copy(const std::byte* from, std::byte* to, int64_t bytes) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(gather());
    if (bytes > 0) {
        KVC_TRY(runtime::copy(to, from, bytes, stream_));
    }
    return advance();
}

void* CudaDevice::allocate_pinned(int64_t bytes) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    if (!own.status().ok()) {
        return nullptr;
    }
    const Result<std::byte*> block = runtime::allocate_pinned(bytes);
    if (!block.ok()) {
        return nullptr;
    }
    pinned_[*block] = bytes;
    return *block;
}

// Copies and kernels that were queued may use it yet. What cannot be waited for now, the device's end gives back.
void CudaDevice::release_pinned(void* block) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    const bool done = own.status().ok() && gather().ok() && waits_.for_stream(stream_).ok();
    if (done && pinned_.erase(static_cast<std::byte*>(block)) > 0) {
        runtime::release_pinned(static_cast<std::byte*>(block));
    }
}

bool CudaDevice::is_pinned(const void* p, int64_t bytes) const {
    const auto* const first = static_cast<const std::byte*>(p);
    const auto* const block = block_at(pinned_, first);
    return block && first + bytes <= block->first + block->second;
}

// What the device has given out is known here, to the byte; of all else the runtime knows whose it is.
Status CudaDevice::check_memory(const void* p, int64_t bytes, bool on_device) {
    std::lock_guard lock(mutex_);
    const OwnCall own(ordinal_);
    KVC_TRY(own.status());
    KVC_TRY(lost_);
    const auto* const first = static_cast<const std::byte*>(p);
    const auto check_end = [&](const auto* block) -> Status {
        const int64_t at = block ? first - block->first : 0;
        if (!block || bytes <= block->second - at) {
            return {};
        }
        return fail(Code::argument, "is byte ", at, " of ", block->second, " of a buffer, which has no ", bytes, " bytes there");
    };
    KVC_TRY(check_end(block_at(blocks_, first)));
    KVC_TRY(check_end(block_at(pinned_, first)));
    return check_place(p, bytes, ordinal_, on_device);
}

}  // namespace kvc::cuda

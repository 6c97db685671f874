#include "kernels/cuda/upload_ring.h"

#include "core/base/size.h"

namespace kvc::cuda {

UploadRing::~UploadRing() {
    for (const Recorded& recorded : events_) {
        if (recorded.event) {
            runtime::destroy_event(recorded.event);
        }
    }
}

Status UploadRing::create(int64_t bytes, int64_t device_bytes, Waits* waits, HeapSource heap) {
    waits_ = waits;
    KVC_TRY(host_.allocate("uploads (pinned memory of the host)", round_up(bytes, 256)));
    KVC_TRY(device_.allocate("uploads", round_up(device_bytes, 256), heap));
    events_.resize(event_count);
    for (Recorded& recorded : events_) {
        const Result<Event> event = runtime::create_event();
        if (!event.ok()) {
            return event.status();
        }
        recorded.event = *event;
    }
    return {};
}

Status UploadRing::record(Stream stream) {
    Recorded& next = events_[(oldest_ + waiting_) % event_count];
    KVC_TRY(runtime::record(next.event, stream));
    next.end = recorded_ = marked_;
    waiting_++;
    return {};
}

Status UploadRing::wait_for_oldest() {
    const Recorded& oldest = events_[oldest_];
    KVC_TRY(waits_->for_event(oldest.event));
    tail_ = oldest.end;
    oldest_ = (oldest_ + 1) % event_count;
    waiting_--;
    return {};
}

Result<UploadRing::Piece> UploadRing::take(int64_t bytes, Stream stream) {
    const int64_t ring = host_.bytes(), size = round_up(bytes, 256);
    if (size > most()) {
        return fail(Code::internal, "CUDA: ", bytes, " bytes to upload, which begin was not told of (ring of ", most(), ")");
    }
    // A piece does not wrap; what is left at the end is skipped.
    const int64_t left = ring - head_ % ring, start = size > left ? head_ + left : head_;
    while (start + size - tail_ > ring) {
        if (waiting_ == 0) {
            if (recorded_ == marked_) {
                return fail(Code::internal, "CUDA: uploads of one call overlap in a ring of ", ring, " bytes");
            }
            KVC_TRY(record(stream));
        }
        KVC_TRY(wait_for_oldest());
    }
    head_ = start + size;
    std::byte* there = nullptr;
    if (device_.data()) {
        device_head_ = device_head_ + size > device_.bytes() ? 0 : device_head_;
        there = device_.data() + device_head_;
        device_head_ += size;
    }
    return Piece{host_.data() + start % ring, there, bytes};
}

Status UploadRing::send(const Piece& piece, Stream stream) {
    const Status sent = piece.bytes > 0 ? runtime::copy_in(piece.device, piece.host, piece.bytes, stream) : Status{};
    if (!sent.ok()) {
        head_ = marked_;
    }
    return sent;
}

Status UploadRing::mark(Stream stream) {
    marked_ = head_;
    const bool due = marked_ - recorded_ >= host_.bytes() / int64_t(event_count);
    return due && waiting_ < event_count ? record(stream) : Status{};
}

}  // namespace kvc::cuda

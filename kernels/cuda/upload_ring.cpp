#include "kernels/cuda/upload_ring.h"

#include "core/base/size.h"

namespace kvc::cuda {

UploadRing::~UploadRing() {
    for (const Mark& mark : marks_) {
        if (mark.event) {
            runtime::destroy_event(mark.event);
        }
    }
}

Status UploadRing::create(int64_t bytes, bool mirrored, HeapSource heap) {
    bytes = round_up(bytes, 256);
    KVC_TRY(host_.allocate("uploads (pinned memory of the host)", bytes));
    if (mirrored) {
        KVC_TRY(device_.allocate("uploads", bytes, heap));
    }
    marks_.resize(mark_count);
    for (Mark& mark : marks_) {
        const Result<Event> event = runtime::create_event();
        if (!event.ok()) {
            return event.status();
        }
        mark.event = *event;
    }
    return {};
}

Status UploadRing::wait_for_oldest() {
    const Mark& mark = marks_[oldest_];
    KVC_TRY(runtime::synchronize(mark.event));
    tail_ = mark.end;
    oldest_ = (oldest_ + 1) % mark_count;
    waiting_--;
    return {};
}

Result<UploadRing::Piece> UploadRing::take(int64_t bytes) {
    const int64_t ring = host_.bytes(), size = round_up(bytes, 256);
    if (size > ring) {
        return fail(Code::internal, "CUDA: ", bytes, " bytes to upload, which begin was not told of (ring of ", ring, ")");
    }
    // A piece does not wrap; what is left at the end is skipped.
    const int64_t left = ring - head_ % ring, start = size > left ? head_ + left : head_;
    while (start + size - tail_ > ring) {
        if (waiting_ == 0) {
            return fail(Code::internal, "CUDA: uploads of one call overlap in a ring of ", ring, " bytes");
        }
        KVC_TRY(wait_for_oldest());
    }
    head_ = start + size;
    const int64_t at = start % ring;
    return Piece{host_.data() + at, device_.data() ? device_.data() + at : nullptr, bytes};
}

Status UploadRing::send(const Piece& piece, Stream stream) {
    const Status sent = piece.bytes > 0 ? runtime::copy_in(piece.device, piece.host, piece.bytes, stream) : Status{};
    if (!sent.ok()) {
        head_ = marked_;
    }
    return sent;
}

Status UploadRing::mark(Stream stream) {
    if (waiting_ == mark_count) {
        KVC_TRY(wait_for_oldest());
    }
    Mark& mark = marks_[(oldest_ + waiting_) % mark_count];
    KVC_TRY(runtime::record(mark.event, stream));
    mark.end = marked_ = head_;
    waiting_++;
    return {};
}

}  // namespace kvc::cuda

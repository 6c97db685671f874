// Pinned memory that is written in a circle, and as much memory of the device where each piece arrives at the same place.
#pragma once
#include <vector>

#include "kernels/cuda/block.h"

namespace kvc::cuda {

// Nothing is allocated after create(), and nobody waits but one who laps what the device has yet to fetch.
class UploadRing {
public:
    UploadRing() = default;
    ~UploadRing();
    UploadRing(const UploadRing&) = delete;
    UploadRing& operator=(const UploadRing&) = delete;

    // mirrored: with memory of the device, from there. Pieces of at most half the ring that are sent together never overlap in it.
    Status create(int64_t bytes, bool mirrored, HeapSource heap = {});
    int64_t bytes() const { return host_.bytes(); }

    struct Piece {
        std::byte* host;
        std::byte* device;
        int64_t bytes;
    };
    // At a multiple of 256; at most the whole ring. Waits for the oldest pieces to be fetched where there is no room.
    Result<Piece> take(int64_t bytes);
    // Queues the copy of a piece. If it cannot be queued, what was taken since the last mark is given back.
    Status send(const Piece& piece, Stream stream);
    // What was taken since the last time may be written again once the stream has come here.
    Status mark(Stream stream);

private:
    struct Mark {
        Event event = nullptr;
        int64_t end = 0;  // what lies before is the event's
    };
    static constexpr size_t mark_count = 64;
    Status wait_for_oldest();

    PinnedBlock host_;
    DeviceBlock device_;
    // Positions count on and on; the ring's bytes repeat.
    int64_t head_ = 0, marked_ = 0, tail_ = 0;
    std::vector<Mark> marks_;
    size_t oldest_ = 0, waiting_ = 0;  // marks whose events have not been waited for
};

}  // namespace kvc::cuda

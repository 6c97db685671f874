// Pinned memory that is written in a circle, and memory of the device where the pieces arrive.
#pragma once
#include <algorithm>
#include <vector>

#include "kernels/cuda/block.h"
#include "kernels/cuda/waits.h"

namespace kvc::cuda {

// Nothing is allocated after create(), and nobody waits but one who laps what the device has yet to fetch. Streams that pieces are sent on
// one after the other wait for each other.
class UploadRing {
public:
    UploadRing() = default;
    ~UploadRing();
    UploadRing(const UploadRing&) = delete;
    UploadRing& operator=(const UploadRing&) = delete;

    // How far the host runs ahead is a matter of its own side. Of the device's (0: there is none, pieces go elsewhere), pieces of at most
    // half that are sent together never overlap; what streams do in their order reuses it, so that it needs no more than that.
    Status create(int64_t bytes, int64_t device_bytes, Waits* waits, HeapSource heap = {});
    int64_t bytes() const { return host_.bytes(); }
    // The largest piece that one may take.
    int64_t most() const { return device_.data() ? std::min(host_.bytes(), device_.bytes()) : host_.bytes(); }

    struct Piece {
        std::byte* host;
        std::byte* device;
        int64_t bytes;
    };
    // At a multiple of 256. Waits for the oldest pieces to be fetched where there is no room; stream: the next piece's, which is behind them.
    Result<Piece> take(int64_t bytes, Stream stream);
    // Queues the copy of a piece. If it cannot be queued, what was taken since the last mark is given back.
    Status send(const Piece& piece, Stream stream);
    // What was taken since the last time may be written again once the stream has come here.
    Status mark(Stream stream);

private:
    // Marks are events only here and there, since each costs the host a call.
    struct Recorded {
        Event event = nullptr;
        int64_t end = 0;  // what lies before is the event's
    };
    static constexpr size_t event_count = 64;
    Status record(Stream stream);
    Status wait_for_oldest();

    PinnedBlock host_;
    DeviceBlock device_;
    Waits* waits_ = nullptr;
    // Positions count on and on; the ring's bytes repeat. Free up to tail_ + bytes; marked up to marked_, and with events up to recorded_.
    int64_t head_ = 0, marked_ = 0, recorded_ = 0, tail_ = 0;
    int64_t device_head_ = 0;
    std::vector<Recorded> events_;
    size_t oldest_ = 0, waiting_ = 0;  // events that have not been waited for
};

}  // namespace kvc::cuda

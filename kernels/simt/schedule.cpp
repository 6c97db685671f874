#include "kernels/simt/schedule.h"

#include <algorithm>
#include <utility>

namespace kvc::simt {

void QueuedStream::launch(int blocks_x, int blocks_y, int threads, const std::function<void()>& kernel, int shared_bytes) {
    schedule_.on_launch(this, [=, this] { Machine::launch(blocks_x, blocks_y, threads, kernel, shared_bytes); });
}

void Schedule::set_around(std::function<void(int)> before, std::function<void(int)> after) {
    before_ = std::move(before);
    after_ = std::move(after);
}

QueuedStream* Schedule::create(int device, LaneOrder order, uint64_t seed) {
    streams_.push_back(std::make_unique<QueuedStream>(*this, device, order, seed));
    return streams_.back().get();
}

void Schedule::destroy(QueuedStream* stream) {
    finish(stream);
    std::erase_if(streams_, [stream](const auto& other) { return other.get() == stream; });
}

// The same generator as the machine's (xorshift64*), so that a seed names the same order everywhere.
uint64_t Schedule::random_below(uint64_t n) {
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return (random_ * 0x2545f4914f6cdd1dULL >> 33) % n;
}

void Schedule::queue(QueuedStream* stream, std::function<void()> work) {
    if (stream->capture_) {
        stream->capture_->work.push_back(std::move(work));
        return;
    }
    stream->queue_.push_back({std::move(work), nullptr, nullptr, 0});
    drift();
}

void Schedule::queue_record(QueuedStream* stream, const EventPointer& event) {
    stream->queue_.push_back({nullptr, nullptr, event, ++event->recorded});
    drift();
}

void Schedule::queue_wait(QueuedStream* stream, const EventPointer& event) {
    stream->queue_.push_back({nullptr, event, nullptr, event->recorded});
    drift();
}

std::optional<Captured> Schedule::end_capture(QueuedStream* stream) {
    std::optional<Capture> capture = std::exchange(stream->capture_, std::nullopt);
    return capture && !capture->spoiled ? std::optional(std::move(capture->work)) : std::nullopt;
}

bool Capture::forbids(cuda::CaptureMode mode_of_caller) const {
    using cuda::CaptureMode;
    if (mode_of_caller == CaptureMode::relaxed) {
        return false;
    }
    const bool own = thread == std::this_thread::get_id();
    return own ? mode != CaptureMode::relaxed : mode_of_caller == CaptureMode::global && mode == CaptureMode::global;
}

bool Schedule::spoil_captures(cuda::CaptureMode mode, const QueuedStream* touched) {
    bool any = false;
    for (const auto& stream : streams_) {
        if (stream->capture_ && (stream.get() == touched || stream->capture_->forbids(mode))) {
            any = stream->capture_->spoiled = true;
        }
    }
    return any;
}

bool Schedule::is_unusable(const QueuedStream* stream) const {
    return stream == legacy_ && std::any_of(streams_.begin(), streams_.end(), [&](const auto& other) {
               return other.get() != stream && other->device_ == stream->device_ && is_capturing(other.get());
           });
}

int64_t Schedule::waiting() const {
    int64_t waiting = 0;
    for (const auto& stream : streams_) {
        waiting += int64_t(stream->queue_.size());
    }
    return waiting;
}

bool Schedule::may_run(const QueuedStream& stream) const {
    if (stream.queue_.empty()) {
        return false;
    }
    const auto& next = stream.queue_.front();
    return !next.waits_for || next.waits_for->reached >= next.time;
}

void Schedule::run(QueuedStream& stream) {
    const QueuedStream::Operation next = std::move(stream.queue_.front());
    stream.queue_.pop_front();
    if (next.records) {
        next.records->reached = std::max(next.records->reached, next.time);
    }
    if (!next.work) {
        return;
    }
    operations_++;
    if (fault_in_ > 0 && --fault_in_ == 0) {
        set_fault("an illegal memory access was encountered");
        return;
    }
    before_(stream.device_);
    try {
        next.work();
    } catch (const Fault& fault) {
        set_fault(fault.what());
    }
    after_(stream.device_);
}

bool Schedule::run_one() {
    std::vector<QueuedStream*> ready;
    for (const auto& stream : streams_) {
        if (may_run(*stream)) {
            ready.push_back(stream.get());
        }
    }
    if (ready.empty()) {
        return false;
    }
    run(*ready[random_ ? random_below(ready.size()) : 0]);
    return true;
}

void Schedule::drift() {
    if (held_) {
        return;
    }
    if (random_ == 0) {
        while (run_one()) {
        }
    } else if (random_below(4) == 0) {
        for (uint64_t n = random_below(6); n > 0 && run_one(); n--) {
        }
    }
}

void Schedule::finish(const QueuedStream* stream) {
    while (!stream->queue_.empty()) {
        if (!run_one()) {
            set_fault("streams wait for each other");
        }
    }
}

void Schedule::finish(const EventPointer& event) {
    const uint64_t time = event->recorded;
    while (event->reached < time) {
        if (!run_one()) {
            set_fault("streams wait for each other");
        }
    }
}

void Schedule::finish(int device) {
    for (const auto& stream : streams_) {
        if (stream->device_ == device) {
            finish(stream.get());
        }
    }
}

void Schedule::finish() {
    while (run_one()) {
    }
    if (std::any_of(streams_.begin(), streams_.end(), [](const auto& stream) { return !stream->queue_.empty(); })) {
        set_fault("streams wait for each other");
    }
}

// What is queued is forgotten, and who waits for it goes on.
void Schedule::set_fault(std::string text) {
    if (!fault_) {
        fault_ = std::move(text);
    }
    for (const auto& stream : streams_) {
        for (const auto& operation : stream->queue_) {
            if (operation.records) {
                operation.records->reached = std::max(operation.records->reached, operation.time);
            }
        }
        stream->queue_.clear();
    }
}

}  // namespace kvc::simt

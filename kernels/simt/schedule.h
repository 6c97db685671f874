// Streams and events of all emulated devices: work is queued and runs late, in any order that streams and events allow.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/capture_mode.h"
#include "kernels/simt/machine.h"

namespace kvc::simt {

// How often an event was recorded, and up to which time the stream has come.
struct EventState {
    uint64_t recorded = 0, reached = 0;
};
using EventPointer = std::shared_ptr<EventState>;

class Schedule;

// The work of a graph, in its order.
using Captured = std::vector<std::function<void()>>;

struct Capture {
    Captured work;
    cuda::CaptureMode mode;
    std::thread::id thread;  // that began it
    bool spoiled = false;

    // Whether it forbids what is unsafe to the calling thread, which has that mode.
    bool forbids(cuda::CaptureMode mode_of_caller) const;
};

// A launch is queued; Schedule runs it.
class QueuedStream final : public Machine {
public:
    QueuedStream(Schedule& schedule, int device, LaneOrder order, uint64_t seed)
        : Machine(order, seed), schedule_(schedule), device_(device) {}
    int device() const { return device_; }
    void launch(int blocks_x, int blocks_y, int threads, const std::function<void()>& kernel, int shared_bytes) override;

private:
    friend class Schedule;
    struct Operation {
        std::function<void()> work;  // may be empty
        EventPointer waits_for, records;
        uint64_t time = 0;  // of the event
    };
    Schedule& schedule_;
    const int device_;
    std::deque<Operation> queue_;
    std::optional<Capture> capture_;  // there is one: what is queued goes there
};

class Schedule {
public:
    // Seed 0: everything runs as soon as its stream allows. Otherwise each seed is an order of its own.
    void set_seed(uint64_t seed) { random_ = seed; }
    // Around each operation, with the device of its stream.
    void set_around(std::function<void(int device)> before, std::function<void(int device)> after);

    QueuedStream* create(int device, LaneOrder order, uint64_t seed);
    void destroy(QueuedStream* stream);

    void queue(QueuedStream* stream, std::function<void()> work);
    void queue_record(QueuedStream* stream, const EventPointer& event);
    void queue_wait(QueuedStream* stream, const EventPointer& event);

    // What is queued on the stream until the end of the capture is recorded. Events are not.
    static void begin_capture(QueuedStream* stream, cuda::CaptureMode mode) {
        stream->capture_ = {{}, mode, std::this_thread::get_id()};
    }
    // std::nullopt if the stream was not captured, or somebody did meanwhile what a capture forbids.
    std::optional<Captured> end_capture(QueuedStream* stream);
    static bool is_capturing(const QueuedStream* stream) { return stream->capture_.has_value(); }
    // The caller, a thread of that mode, does what is unsafe, or touches that stream: whether a capture forbids it, which is lost then.
    bool spoil_captures(cuda::CaptureMode mode, const QueuedStream* touched);
    // A stream that stands for the legacy default one: it is of no use while another stream of its device is captured. nullptr: none.
    void set_legacy(const QueuedStream* stream) { legacy_ = stream; }
    bool is_unusable(const QueuedStream* stream) const;

    // Run what has to be run, and perhaps more, until the stream (the event, the device's streams, everything) is done.
    void finish(const QueuedStream* stream);
    void finish(const EventPointer& event);
    void finish(int device);
    void finish();
    // Perhaps runs something.
    void drift();

    // As long as it is held nothing runs unless somebody waits for it.
    void hold(bool held) { held_ = held; }

    // What an operation did wrong. From then on nothing runs.
    const std::optional<std::string>& fault() const { return fault_; }
    void set_fault(std::string text);
    void forget_fault() { fault_.reset(); }
    int64_t operations() const { return operations_; }  // that have run
    int64_t waiting() const;                            // that have not
    // The n-th operation from now on faults; 0: none.
    void fault_in(int64_t n) { fault_in_ = n; }
    // Where a stream's launches go, which then come back by queue().
    std::function<void(QueuedStream* stream, std::function<void()> work)> on_launch;

private:
    uint64_t random_below(uint64_t n);
    bool may_run(const QueuedStream& stream) const;
    bool run_one();
    void run(QueuedStream& stream);

    uint64_t random_ = 0;
    int64_t operations_ = 0, fault_in_ = 0;
    std::function<void(int)> before_, after_;
    std::vector<std::unique_ptr<QueuedStream>> streams_;
    std::optional<std::string> fault_;
    const QueuedStream* legacy_ = nullptr;
    bool held_ = false;
};

}  // namespace kvc::simt

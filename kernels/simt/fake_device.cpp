#include "kernels/simt/fake_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvc::simt {
namespace {

thread_local int selected_by_thread = 0;
thread_local cuda::CaptureMode capture_mode_of_thread = cuda::CaptureMode::global;
thread_local FakeDevice::Outcome launch_of_thread;  // the first that went wrong

}  // namespace

FakeDevice& FakeDevice::get() {
    static FakeDevice* const device = new FakeDevice;  // outlives what static objects of tests still hold
    return *device;
}

FakeDevice::FakeDevice() {
    schedule.set_around(
        [this](int device) {
            for (DeviceMemory& memory : memory_) {
                &memory == &memory_[size_t(device)] ? memory.unlock() : memory.hide();
            }
        },
        [this](int device) {
            for (DeviceMemory& memory : memory_) {
                &memory == &memory_[size_t(device)] ? memory.lock() : memory.show();
            }
        });
    schedule.on_launch = [this](QueuedStream* stream, std::function<void()> work) {
        std::lock_guard lock(mutex_);
        if (before_launches_) {
            before_launches_();
        }
        if (fails_now()) {
            launch_of_thread.injected = true;
        } else if (stream->device() != selected()) {
            count_stray();
            launch_of_thread.fault = "invalid resource handle";
        } else if (!schedule.fault()) {
            schedule.queue(stream, std::move(work));
        }
    };
}

void FakeDevice::set_order(uint64_t seed, LaneOrder lanes) {
    std::lock_guard lock(mutex_);
    schedule.finish();
    schedule.set_seed(seed);
    lanes_ = lanes;
    lane_seed_ = seed;
}

void FakeDevice::fail_call_in(int64_t n) {
    std::lock_guard lock(mutex_);
    fail_in_ = n;
}

void FakeDevice::fault_in(int64_t n) {
    std::lock_guard lock(mutex_);
    schedule.fault_in(n);
}

void FakeDevice::before_launches(std::function<void()> body) {
    std::lock_guard lock(mutex_);
    before_launches_ = std::move(body);
}

void FakeDevice::hold(bool held) {
    std::lock_guard lock(mutex_);
    schedule.hold(held);
}

void FakeDevice::heal() {
    std::lock_guard lock(mutex_);
    schedule.forget_fault();
    schedule.fault_in(0);
    fail_in_ = fail_select_in_ = 0;
    launch_of_thread = {};
}

void FakeDevice::set_absent(std::string reason, int driver) {
    std::lock_guard lock(mutex_);
    absent_ = std::move(reason);
    driver_ = driver;
}

void FakeDevice::set_architecture(int of_devices, std::vector<int> of_code, std::vector<int> of_ptx) {
    std::lock_guard lock(mutex_);
    architecture_ = of_devices;
    code_ = std::move(of_code);
    ptx_ = std::move(of_ptx);
}

int FakeDevice::code() const {
    int best = 0;
    for (const int code : code_) {
        best = code / 10 == architecture_ / 10 && code <= architecture_ ? std::max(best, code) : best;
    }
    for (const int ptx : best == 0 ? ptx_ : std::vector<int>{}) {
        best = ptx <= architecture_ ? std::max(best, ptx) : best;
    }
    return best;
}

void FakeDevice::set_managed(const void* p, int64_t bytes) {
    std::lock_guard lock(mutex_);
    managed_ = static_cast<const std::byte*>(p);
    managed_bytes_ = bytes;
}

bool FakeDevice::is_managed(const void* p) const { return managed_ && p >= managed_ && p < managed_ + managed_bytes_; }

void FakeDevice::set_pools(bool has) {
    std::lock_guard lock(mutex_);
    pools_ = has;
}

void FakeDevice::set_count(int n) {
    std::lock_guard lock(mutex_);
    count_ = n;
}

void FakeDevice::fail_select_in(int64_t n) {
    std::lock_guard lock(mutex_);
    fail_select_in_ = n;
}

int FakeDevice::selected() const { return selected_by_thread; }

bool FakeDevice::select(int ordinal) {
    std::lock_guard lock(mutex_);
    if (ordinal < 0 || ordinal >= count_ || (fail_select_in_ > 0 && --fail_select_in_ == 0)) {
        return false;
    }
    selected_by_thread = ordinal;
    return true;
}

void FakeDevice::count_stray() {
    std::lock_guard lock(mutex_);
    counts_.strays++;
}

bool FakeDevice::forbidden(const QueuedStream* touched) {
    std::lock_guard lock(mutex_);
    const bool forbidden = schedule.spoil_captures(capture_mode_of_thread, touched);
    counts_.forbidden += forbidden;
    return forbidden;
}

cuda::CaptureMode FakeDevice::exchange_capture_mode(cuda::CaptureMode mode) { return std::exchange(capture_mode_of_thread, mode); }

int FakeDevice::owner(const void* p, int64_t bytes) const {
    const auto found = std::find_if(memory_.begin(), memory_.end(), [&](const DeviceMemory& m) { return m.holds(p, bytes); });
    return found == memory_.end() ? -1 : int(found - memory_.begin());
}

int FakeDevice::owner_of_pinned(const void* p, int64_t bytes) const {
    const auto found = std::find_if(memory_.begin(), memory_.end(), [&](const DeviceMemory& m) { return m.holds_pinned(p, bytes); });
    return found == memory_.end() ? -1 : int(found - memory_.begin());
}

std::string FakeDevice::absent() {
    std::lock_guard lock(mutex_);
    return absent_;
}

int FakeDevice::driver() {
    std::lock_guard lock(mutex_);
    return driver_;
}

FakeDevice::Counts FakeDevice::counts() {
    std::lock_guard lock(mutex_);
    Counts counts = counts_;
    counts.operations = schedule.operations();
    counts.waiting = schedule.waiting();
    for (const DeviceMemory& memory : memory_) {
        counts.blocks += memory.block_count();
        counts.pinned_blocks += memory.pinned_count();
    }
    return counts;
}

FakeDevice::Counts FakeDevice::counts_of(int ordinal) {
    std::lock_guard lock(mutex_);
    Counts counts = this->counts();
    counts.blocks = memory(ordinal).block_count();
    counts.pinned_blocks = memory(ordinal).pinned_count();
    return counts;
}

void FakeDevice::peek(const void* from, int64_t bytes, void* to) {
    std::lock_guard lock(mutex_);
    for (DeviceMemory& memory : memory_) {
        memory.unlock();
    }
    std::memcpy(to, from, size_t(bytes));
    for (DeviceMemory& memory : memory_) {
        memory.lock();
    }
}

bool FakeDevice::fails_now() {
    counts_.calls++;
    return fail_in_ > 0 && --fail_in_ == 0;
}

FakeDevice::Outcome FakeDevice::call(const std::function<void()>& body) {
    std::lock_guard lock(mutex_);
    if (schedule.fault()) {
        return {false, *schedule.fault()};
    }
    if (fails_now()) {
        return {true, {}};
    }
    body();
    return {false, schedule.fault().value_or("")};
}

void FakeDevice::run(const std::function<void()>& body) {
    std::lock_guard lock(mutex_);
    body();
}

FakeDevice::Outcome FakeDevice::launched() {
    std::lock_guard lock(mutex_);
    Outcome outcome = std::exchange(launch_of_thread, {});
    if (outcome.ok()) {
        outcome.fault = schedule.fault().value_or("");
    }
    return outcome;
}

}  // namespace kvc::simt

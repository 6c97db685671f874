#include "kernels/simt/fake_device.h"

#include <cstring>
#include <utility>

namespace kvc::simt {

FakeDevice& FakeDevice::get() {
    static FakeDevice* const device = new FakeDevice;  // outlives what static objects of tests still hold
    return *device;
}

FakeDevice::FakeDevice() {
    schedule.set_around([this] { memory.unlock(); }, [this] { memory.lock(); });
    schedule.on_launch = [this](QueuedStream* stream, std::function<void()> work) {
        std::lock_guard lock(mutex_);
        if (before_launches_) {
            before_launches_();
        }
        if (fails_now()) {
            launch_failed_ = true;
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

void FakeDevice::heal() {
    std::lock_guard lock(mutex_);
    schedule.forget_fault();
    schedule.fault_in(0);
    fail_in_ = 0;
    launch_failed_ = false;
}

void FakeDevice::set_absent(std::string reason) {
    std::lock_guard lock(mutex_);
    absent_ = std::move(reason);
}

std::string FakeDevice::absent() {
    std::lock_guard lock(mutex_);
    return absent_;
}

FakeDevice::Counts FakeDevice::counts() {
    std::lock_guard lock(mutex_);
    Counts counts = counts_;
    counts.operations = schedule.operations();
    counts.blocks = memory.block_count();
    counts.pinned_blocks = memory.pinned_count();
    return counts;
}

void FakeDevice::peek(const void* from, int64_t bytes, void* to) {
    std::lock_guard lock(mutex_);
    memory.unlock();
    std::memcpy(to, from, size_t(bytes));
    memory.lock();
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
    return {std::exchange(launch_failed_, false), schedule.fault().value_or("")};
}

}  // namespace kvc::simt

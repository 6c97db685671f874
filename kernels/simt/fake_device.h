// The device behind the emulated runtime (runtime.cpp): what tests may set and ask. There is one in a process.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/simt/device_memory.h"
#include "kernels/simt/schedule.h"

namespace kvc::simt {

class FakeDevice {
public:
    static FakeDevice& get();

    // ---- for tests ----
    // Seed 0: each operation runs when it is queued, otherwise late and in an order of the seed's. Lane orders are of streams that are
    // created later.
    void set_order(uint64_t seed, LaneOrder lanes = LaneOrder::forward);
    // The n-th call from now on that may fail does; 0: none.
    void fail_call_in(int64_t n);
    // The n-th operation that runs from now on faults, which shows at the next synchronization; 0: none.
    void fault_in(int64_t n);
    // Runs right before launches are queued: what another thread does then. nullptr: nothing.
    void before_launches(std::function<void()> body);
    // As if the device had been reset: the fault is forgotten.
    void heal();
    // No device, for that reason; "" for one.
    void set_absent(std::string reason);

    struct Counts {
        int64_t calls = 0;       // that may fail, so far
        int64_t operations = 0;  // that have run
        int64_t blocks = 0, pinned_blocks = 0;
        int64_t allocations = 0, waits = 0;  // calls that allocate; that wait
    };
    Counts counts();
    // Bytes of device memory, as a debugger sees them: nothing need have come there yet.
    void peek(const void* from, int64_t bytes, void* to);

    // ---- for the runtime ----
    // Runs with the device locked; a call that is to fail, or that comes after a fault, does not run.
    struct Outcome {
        bool injected = false;
        std::string fault;
        bool ok() const { return !injected && fault.empty(); }
    };
    Outcome call(const std::function<void()>& body);
    // The same for what cannot fail.
    void run(const std::function<void()>& body);
    Outcome launched();
    std::string absent();

    DeviceMemory memory;
    Schedule schedule;
    LaneOrder lanes() const { return lanes_; }
    uint64_t lane_seed() { return ++lane_seed_; }
    void count_allocation() { counts_.allocations++; }
    void count_wait() { counts_.waits++; }

private:
    FakeDevice();
    bool fails_now();

    std::recursive_mutex mutex_;
    LaneOrder lanes_ = LaneOrder::forward;
    uint64_t lane_seed_ = 0;
    int64_t fail_in_ = 0;
    bool launch_failed_ = false;
    std::function<void()> before_launches_;
    std::string absent_;
    Counts counts_;
};

}  // namespace kvc::simt

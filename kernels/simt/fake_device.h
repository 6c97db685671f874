// The devices behind the emulated runtime (runtime.cpp): what tests may set and ask. They share one object of the process, with its
// schedule and its faults; what a stream, an event or memory is of is one of them.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/simt/device_memory.h"
#include "kernels/simt/lane_order.h"
#include "kernels/simt/schedule.h"

namespace kvc::simt {

class FakeDevice {
public:
    static FakeDevice& get();

    // ---- for tests ----
    // Seed 0: each operation runs when it is queued, otherwise late and in an order of the seed's. Lane orders are of streams that are
    // created later.
    void set_order(uint64_t seed, LaneOrder lanes = lane_order_of_run());
    // The n-th call from now on that may fail does; 0: none.
    void fail_call_in(int64_t n);
    // The n-th operation that runs from now on faults, which shows at the next synchronization; 0: none.
    void fault_in(int64_t n);
    // Runs right before launches are queued: what another thread does then. nullptr: nothing.
    void before_launches(std::function<void()> body);
    // As long as it is held nothing runs unless a call waits for it.
    void hold(bool held);
    // As if the device had been reset: the fault is forgotten.
    void heal();
    // No device, for that reason, beside a driver for that CUDA (0: no driver); "" for as many as there were. The runtime is of 13.0.
    void set_absent(std::string reason, int driver = 13000);
    // What the devices are, 90 as in sm_90, and what the build has for them: machine code runs on the same major, from its minor on, PTX on
    // that architecture and all later ones. Of streams that are created later.
    void set_architecture(int of_devices, std::vector<int> of_code, std::vector<int> of_ptx = {});
    // Memory of the host that place_of calls managed from now on; nothing can be copied there. nullptr: none.
    void set_managed(const void* p, int64_t bytes);
    // Whether the devices have memory pools.
    void set_pools(bool has);
    // So many devices, at most 8, of which 0 is the one that a new thread has selected.
    void set_count(int n);
    // The n-th time from now on that a thread selects another device it cannot; 0: none. Not among the calls that may fail.
    void fail_select_in(int64_t n);

    struct Counts {
        int64_t calls = 0;       // that may fail, so far
        int64_t operations = 0;  // that have run
        int64_t waiting = 0;     // that have not
        int64_t blocks = 0, pinned_blocks = 0;
        int64_t pools = 0;                      // that were created and live
        int64_t allocations = 0, waits = 0;     // calls that allocate; that wait
        int64_t copies_out = 0, bytes_out = 0;  // to the host
        int64_t strays = 0;                     // calls that named what is of another device than their thread has selected
        int64_t forbidden = 0;                  // calls that a capture forbids, while there was one
    };
    Counts counts();                // of all devices
    Counts counts_of(int ordinal);  // the same with one's blocks alone
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
    int driver();

    int count() const { return count_; }
    int architecture() const { return architecture_; }
    int code() const;  // the architecture whose code the devices run; 0: none
    bool is_managed(const void* p) const;
    bool has_pools() const { return pools_; }
    void count_pool(int64_t more) { counts_.pools += more; }
    // Which device the calling thread works with. False: it cannot be selected.
    int selected() const;
    bool select(int ordinal);
    void count_stray();

    DeviceMemory& memory(int ordinal) { return memory_[size_t(ordinal)]; }
    // Whose they are, in one block of the device's memory or of pinned memory; -1: nobody's.
    int owner(const void* p, int64_t bytes) const;
    int owner_of_pinned(const void* p, int64_t bytes) const;
    Schedule schedule;
    LaneOrder lanes() const { return lanes_; }
    uint64_t lane_seed() { return ++lane_seed_; }
    void count_allocation() { counts_.allocations++; }
    void count_wait() { counts_.waits++; }
    void count_copy_out(int64_t bytes) { counts_.copies_out++, counts_.bytes_out += bytes; }
    // Whether a capture forbids what it would not at another time; the capture is then lost. touched: a stream that the call is about.
    bool forbidden(const QueuedStream* touched = nullptr);
    // Of the calling thread; what it was.
    static cuda::CaptureMode exchange_capture_mode(cuda::CaptureMode mode);

private:
    FakeDevice();
    bool fails_now();

    std::recursive_mutex mutex_;
    std::array<DeviceMemory, 8> memory_;
    int count_ = 2;
    bool pools_ = true;
    int architecture_ = architecture_of_run();
    std::vector<int> code_ = {architecture_}, ptx_;
    const std::byte* managed_ = nullptr;
    int64_t managed_bytes_ = 0;
    int64_t fail_select_in_ = 0;
    LaneOrder lanes_ = lane_order_of_run();
    uint64_t lane_seed_ = 0;
    int64_t fail_in_ = 0;
    std::function<void()> before_launches_;
    std::string absent_;
    int driver_ = 13000;
    Counts counts_;
};

}  // namespace kvc::simt

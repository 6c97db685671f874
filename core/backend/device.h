// A backend with memory of its own (a GPU). Control stays with core: page tables, reservations, decisions. Records, partial results
// and, if a step says so, callers' buffers lie in the device's memory, which the host never dereferences.
#pragma once
#include <memory>

#include "core/backend/executor.h"

namespace kvc {

struct DeviceStep {
    void* stream = nullptr;       // the caller's (a CUstream); nullptr: the device's own
    bool device_buffers = false;  // k, v, q, out and lse lie in device memory
    // The most that one call of the step brings, so that later calls allocate nothing.
    int64_t store_jobs = 0, quantize_jobs = 0, items = 0, entries = 0, counts = 0, tiles = 0;
    int64_t state_floats = 0, lse_floats = 0;
    int64_t in_bytes = 0, out_bytes = 0;  // of host buffers of one call
};

class DeviceExecutor : public Executor {
public:
    // Device memory of the step, as large as DeviceStep said.
    virtual float* states() = 0;
    virtual float* lse() = 0;
};

class Device {
public:
    virtual ~Device() = default;
    virtual const char* name() const = 0;  // of the hardware

    // The record layouts and what the host can do with copies of records: store, quantize, read, unpack, pack, unsupported. Its attend,
    // mass and finish are nullptr.
    virtual const KernelTable& records() const = 0;

    // ---- memory ----
    virtual std::byte* allocate(int64_t bytes) = 0;  // 256-byte aligned; nullptr: refused
    virtual void release(std::byte* block) = 0;
    // Behind all that was launched before, by any step. write has taken `from` when it returns; read waits.
    virtual Status write(std::byte* to, const std::byte* from, int64_t bytes) = 0;
    virtual Status read(const std::byte* from, std::byte* to, int64_t bytes) = 0;
    virtual Status copy(const std::byte* from, std::byte* to, int64_t bytes) = 0;
    // Waits for everything; an asynchronous fault since the last time is its error.
    virtual Status synchronize() = 0;

    virtual Result<std::unique_ptr<DeviceExecutor>> begin(const DeviceStep& step) = 0;
};

// Opens device `ordinal` of the kind that this build has; the error says why there is none (kernels/cuda defines it, or a stand-in).
Result<std::shared_ptr<Device>> open_device(int64_t ordinal);

}  // namespace kvc

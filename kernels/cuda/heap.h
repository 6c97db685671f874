// Where a device's memory comes from: of the driver, of a pool in the order of the device's own stream, or of the caller's functions.
#pragma once
#include "core/backend/device.h"
#include "kernels/cuda/runtime.h"

namespace kvc::cuda {

// All of it with the device selected.
class Heap {
public:
    // Of the device `ordinal`, in the order of its stream. Code::unsupported where the device has no pools. source: of DeviceHeap::callers.
    Status open(int ordinal, DeviceHeap kind, const MemorySource& source, Stream stream);
    // Nobody uses what came from here any more, and the stream is gone: what is released from now on is free at once.
    void settle() { stream_ = nullptr; }
    // After the last release.
    void close();

    // Whether blocks are of use only behind the stream as it stands after allocate, and release only queues.
    bool ordered() const { return pool_ != nullptr; }
    // Whether release waits for all that was queued, as the driver does.
    bool release_waits() const { return !pool_ && !source_.allocate; }

    // Code::no_memory: refused. Code::argument: the caller's function gave a block that is not aligned or not of the device, which it has
    // back.
    Result<std::byte*> allocate(int64_t bytes) const;
    // Of a pool: behind what the stream holds. bytes: as it was asked for.
    void release(std::byte* block, int64_t bytes) const;
    // What the pool keeps for later goes back to the driver.
    Status trim() const;

private:
    Result<std::byte*> allocate_by_caller(int64_t bytes) const;

    MemorySource source_;
    int ordinal_ = 0;
    Pool pool_ = nullptr;
    bool own_ = false;
    Stream stream_ = nullptr;
};

}  // namespace kvc::cuda

// Where a device's memory comes from: of the driver, or of a pool in the order of the device's own stream.
#pragma once
#include "core/backend/device.h"
#include "kernels/cuda/runtime.h"

namespace kvc::cuda {

// All of it with the device selected.
class Heap {
public:
    // Of the device `ordinal`, in the order of its stream. Code::unsupported where the device has no pools.
    Status open(int ordinal, DeviceHeap kind, Stream stream);
    // Nobody uses what came from here any more, and the stream is gone: what is released from now on is free at once.
    void settle() { stream_ = nullptr; }
    // After the last release.
    void close();

    // Whether blocks are of use only behind the stream as it stands after allocate, and release only queues.
    bool ordered() const { return pool_ != nullptr; }

    Result<std::byte*> allocate(int64_t bytes) const;
    // Of a pool: behind what the stream holds.
    void release(std::byte* block) const;
    // What the pool keeps for later goes back to the driver.
    Status trim() const;

private:
    Pool pool_ = nullptr;
    bool own_ = false;
    Stream stream_ = nullptr;
};

}  // namespace kvc::cuda

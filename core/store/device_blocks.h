// Memory of a device beside an arena, for as long as one change of a sequence takes.
#pragma once
#include <vector>

#include "core/backend/device.h"

namespace kvc {

class DeviceBlocks {
public:
    explicit DeviceBlocks(Device* device) : device_(device) {}
    ~DeviceBlocks();
    DeviceBlocks(const DeviceBlocks&) = delete;
    DeviceBlocks& operator=(const DeviceBlocks&) = delete;

    // nullptr: refused.
    std::byte* add(int64_t bytes);

private:
    Device* device_;
    std::vector<std::byte*> blocks_;
};

}  // namespace kvc

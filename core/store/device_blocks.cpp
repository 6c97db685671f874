#include "core/store/device_blocks.h"

#include <algorithm>
#include <bit>

namespace kvc {

DeviceBlocks::~DeviceBlocks() {
    for (std::byte* const block : blocks_)
        device_->release(block);
}

// Sizes are powers of two, so that the next change's blocks are the last one's.
std::byte* DeviceBlocks::add(int64_t bytes) {
    constexpr int64_t least = 4096;
    blocks_.reserve(blocks_.size() + 1);
    std::byte* const block = device_->allocate(int64_t(std::bit_ceil(uint64_t(std::max(bytes, least)))));
    if (block) blocks_.push_back(block);
    return block;
}

}  // namespace kvc

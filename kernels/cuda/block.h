// Memory that is released with its owner: of the device, and of the host for copies to and from it.
#pragma once
#include <utility>

#include "kernels/cuda/runtime.h"

namespace kvc::cuda {

template <Result<std::byte*> (*allocate_bytes)(int64_t), void (*release_bytes)(std::byte*)>
class Block {
public:
    Block() = default;
    Block(Block&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Block& operator=(Block&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Block() {
        if (data_) {
            release_bytes(data_);
        }
    }

    // Of an empty block. None of zero bytes is asked for.
    Status allocate(const char* what, int64_t bytes) {
        if (bytes == 0) {
            return {};
        }
        const Result<std::byte*> block = allocate_bytes(bytes);
        if (!block.ok()) {
            return fail(block.status().code, block.status().message, ": ", bytes, " bytes for ", what);
        }
        data_ = *block;
        bytes_ = bytes;
        return {};
    }

    std::byte* data() const { return data_; }
    int64_t bytes() const { return bytes_; }

private:
    std::byte* data_ = nullptr;
    int64_t bytes_ = 0;
};

using DeviceBlock = Block<runtime::allocate, runtime::release>;
using PinnedBlock = Block<runtime::allocate_pinned, runtime::release_pinned>;

}  // namespace kvc::cuda

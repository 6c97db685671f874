// Memory that is released with its owner: of the device, and of the host for copies to and from it.
#pragma once
#include <utility>

#include "kernels/cuda/heap.h"

namespace kvc::cuda {

// Source: allocate(bytes) and release(block, bytes).
template <class Source>
class Block {
public:
    Block() = default;
    Block(Block&& other) noexcept
        : source_(other.source_), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Block& operator=(Block&& other) noexcept {
        std::swap(source_, other.source_);
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Block() {
        if (data_) {
            source_.release(data_, bytes_);
        }
    }

    // Of an empty block. None of zero bytes is asked for.
    Status allocate(const char* what, int64_t bytes, Source source = {}) {
        if (bytes == 0) {
            return {};
        }
        const Result<std::byte*> block = source.allocate(bytes);
        if (!block.ok()) {
            return fail(block.status().code, block.status().message, ": ", bytes, " bytes for ", what);
        }
        source_ = source;
        data_ = *block;
        bytes_ = bytes;
        return {};
    }

    std::byte* data() const { return data_; }
    int64_t bytes() const { return bytes_; }

private:
    Source source_;
    std::byte* data_ = nullptr;
    int64_t bytes_ = 0;
};

// A heap that outlives the block; none: the driver.
struct HeapSource {
    const Heap* heap = nullptr;
    Result<std::byte*> allocate(int64_t bytes) const { return heap ? heap->allocate(bytes) : runtime::allocate(bytes); }
    void release(std::byte* block, int64_t bytes) const { heap ? heap->release(block, bytes) : runtime::release(block); }
};

struct PinnedSource {
    Result<std::byte*> allocate(int64_t bytes) const { return runtime::allocate_pinned(bytes); }
    void release(std::byte* block, int64_t) const { runtime::release_pinned(block); }
};

using DeviceBlock = Block<HeapSource>;
using PinnedBlock = Block<PinnedSource>;

}  // namespace kvc::cuda

#include "kernels/cuda/heap.h"

#include "kernels/cuda/place.h"

namespace kvc::cuda {

namespace {

constexpr int64_t block_alignment = 256;  // cudaMalloc's, which kernels and copies count on

}  // namespace

Status Heap::open(int ordinal, DeviceHeap kind, const MemorySource& source, Stream stream) {
    ordinal_ = ordinal;
    if (kind == DeviceHeap::callers) {
        source_ = source;
    }
    if (kind == DeviceHeap::direct || kind == DeviceHeap::callers) {
        return {};
    }
    const Result<bool> offered = runtime::has_pools(ordinal);
    if (!offered.ok()) {
        return offered.status();
    }
    if (!*offered) {
        return fail(Code::unsupported, "CUDA device ", ordinal, " has no memory pools, which a target with \"pool\" asks for");
    }
    own_ = kind == DeviceHeap::own_pool;
    const Result<Pool> pool = own_ ? runtime::create_pool(ordinal) : runtime::default_pool(ordinal);
    if (!pool.ok()) {
        return pool.status();
    }
    pool_ = *pool;
    stream_ = stream;
    return {};
}

void Heap::close() {
    if (own_ && pool_) {
        runtime::destroy_pool(pool_);
    }
    pool_ = nullptr;
}

Result<std::byte*> Heap::allocate_by_caller(int64_t bytes) const {
    void* const block = source_.allocate(source_.context, bytes, block_alignment);
    if (!block) {
        return fail(Code::no_memory, "allocate gave NULL");
    }
    const Status fits = [&]() -> Status {
        if (reinterpret_cast<uintptr_t>(block) % block_alignment != 0) {
            return fail(Code::argument, "is not ", block_alignment, "-byte aligned");
        }
        return check_place(block, bytes, ordinal_, true);
    }();
    if (!fits.ok()) {
        source_.release(source_.context, block, bytes);
        return fits.code == Code::argument ? fail(Code::argument, "allocate gave a block that ", fits.message) : fits;
    }
    return static_cast<std::byte*>(block);
}

Result<std::byte*> Heap::allocate(int64_t bytes) const {
    if (source_.allocate) {
        return allocate_by_caller(bytes);
    }
    return pool_ ? runtime::allocate_in(pool_, bytes, stream_) : runtime::allocate(bytes);
}

void Heap::release(std::byte* block, int64_t bytes) const {
    if (source_.allocate) {
        source_.release(source_.context, block, bytes);
    } else if (stream_) {
        runtime::release_in(block, stream_);
    } else {
        runtime::release(block);
    }
}

Status Heap::trim() const { return pool_ ? runtime::trim(pool_) : Status{}; }

}  // namespace kvc::cuda

#include "kernels/cuda/heap.h"

namespace kvc::cuda {

Status Heap::open(int ordinal, DeviceHeap kind, Stream stream) {
    if (kind == DeviceHeap::direct) {
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

Result<std::byte*> Heap::allocate(int64_t bytes) const {
    return pool_ ? runtime::allocate_in(pool_, bytes, stream_) : runtime::allocate(bytes);
}

void Heap::release(std::byte* block) const {
    if (stream_) {
        runtime::release_in(block, stream_);
    } else {
        runtime::release(block);
    }
}

Status Heap::trim() const { return pool_ ? runtime::trim(pool_) : Status{}; }

}  // namespace kvc::cuda

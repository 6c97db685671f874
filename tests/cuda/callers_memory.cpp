#include "tests/cuda/callers_memory.h"

#include <cstdlib>
#include <doctest/doctest.h>

#include "core/base/size.h"
#include "kernels/simt/fake_device.h"

namespace kvc_test {

using kvc::simt::FakeDevice;

class CallersMemory::Call {
public:
    explicit Call(CallersMemory& memory) : memory_(memory) {
        CHECK(!memory.entered_.exchange(true));
        CHECK(FakeDevice::get().selected() == memory.ordinal_);
    }
    ~Call() { memory_.entered_ = false; }

private:
    CallersMemory& memory_;
};

CallersMemory::~CallersMemory() { CHECK(blocks_.empty()); }

void CallersMemory::serve(kvc_options* options) {
    options->allocate = allocate;
    options->release = release;
    options->allocator_context = this;
}

void CallersMemory::refuse_in(int64_t n, Refusal refusal) {
    refuse_in_ = n;
    refusal_ = refusal;
    refused_ = 0;
}

void* CallersMemory::allocate(void* context, int64_t bytes, int64_t alignment) {
    auto& memory = *static_cast<CallersMemory*>(context);
    const Call call(memory);
    return memory.give(bytes, alignment);
}

void CallersMemory::release(void* context, void* block, int64_t bytes) {
    auto& memory = *static_cast<CallersMemory*>(context);
    const Call call(memory);
    memory.take_back(block, bytes);
}

void* CallersMemory::give(int64_t bytes, int64_t alignment) {
    CHECK(alignment == 256);
    CHECK(bytes > 0);
    const bool refuses = refuse_in_ > 0 && --refuse_in_ == 0;
    refused_ += refuses;
    if (refuses && refusal_ == Refusal::null) {
        return nullptr;
    }
    if (refuses && refusal_ == Refusal::of_host) {
        void* const block = std::aligned_alloc(size_t(alignment), size_t(kvc::round_up(bytes, alignment)));
        blocks_[block] = {nullptr, bytes};
        given_++;
        return block;
    }
    const int64_t offset = refuses ? alignment / 2 : 0;
    Block block = {nullptr, bytes};
    FakeDevice::get().run([&] { block.memory = FakeDevice::get().memory(ordinal_).allocate(bytes + offset); });
    REQUIRE(block.memory != nullptr);
    blocks_[block.memory + offset] = block;
    given_++;
    return block.memory + offset;
}

void CallersMemory::take_back(void* block, int64_t bytes) {
    const auto found = blocks_.find(block);
    REQUIRE(found != blocks_.end());
    CHECK(found->second.bytes == bytes);
    early_ += FakeDevice::get().counts().waiting > 0;
    if (found->second.memory) {
        FakeDevice::get().run([&] { FakeDevice::get().memory(ordinal_).release(found->second.memory); });
    } else {
        std::free(block);
    }
    blocks_.erase(found);
}

}  // namespace kvc_test

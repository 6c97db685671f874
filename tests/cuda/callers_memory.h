// A caller's own allocator of one emulated device's memory, as kvc_options takes it. It counts what it is asked for and what comes back,
// and refuses when it is told to.
#pragma once
#include <atomic>
#include <cstdint>
#include <kvc.h>
#include <map>

#include "core/base/memory_source.h"

namespace kvc_test {

class CallersMemory {
public:
    enum class Refusal { null, misaligned, of_host };

    explicit CallersMemory(int ordinal) : ordinal_(ordinal) {}
    ~CallersMemory();
    CallersMemory(const CallersMemory&) = delete;
    CallersMemory& operator=(const CallersMemory&) = delete;

    kvc::MemorySource source() { return {allocate, release, this}; }
    void serve(kvc_options* options);
    // The n-th call from now on is not served, or with a block that is not aligned or not the device's; 0: none.
    void refuse_in(int64_t n, Refusal refusal = Refusal::null);

    int64_t given() const { return given_; }      // blocks so far
    int64_t refused() const { return refused_; }  // calls since refuse_in
    Refusal refusal() const { return refusal_; }
    int64_t live() const { return int64_t(blocks_.size()); }
    // Blocks that came back while something that was queued had yet to run.
    int64_t early() const { return early_; }

private:
    struct Block {
        std::byte* memory;  // nullptr: the host's
        int64_t bytes;
    };
    static void* allocate(void* context, int64_t bytes, int64_t alignment);
    static void release(void* context, void* block, int64_t bytes);
    void* give(int64_t bytes, int64_t alignment);
    void take_back(void* block, int64_t bytes);
    // What a call promises: the device is selected, and no other call runs.
    class Call;

    const int ordinal_;
    std::map<void*, Block> blocks_;
    int64_t given_ = 0, refused_ = 0, early_ = 0, refuse_in_ = 0;
    Refusal refusal_ = Refusal::null;
    std::atomic<bool> entered_ = false;
};

}  // namespace kvc_test

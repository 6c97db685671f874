// What stores of one step find that cannot be stored: a word for each tag on the device, read by the host when it synchronizes.
#pragma once
#include <vector>

#include "core/backend/device.h"
#include "kernels/cuda/block.h"
#include "kernels/cuda/waits.h"

namespace kvc::cuda {

class BadTokens {
public:
    BadTokens() = default;
    ~BadTokens();
    BadTokens(const BadTokens&) = delete;
    BadTokens& operator=(const BadTokens&) = delete;

    Status create(int64_t most_tags, HeapSource heap);
    int64_t most_tags() const { return words_.bytes() / int64_t(sizeof(uint64_t)); }

    // For another step, behind what the stream holds.
    Status reset(Stream stream);
    // The device's word of a tag, for stores; the stores of a step bring tags in the same order layer after layer.
    Result<unsigned long long*> word_of(int64_t tag);
    bool any() const { return !tags_.empty(); }

    // Queues the copy of the words to the host.
    Status fetch(Stream stream);
    Result<bool> fetched() { return runtime::done(fetched_); }
    Status wait(Waits& waits) { return waits.for_event(fetched_); }
    // After that: appends what was found since the last time.
    void report(std::vector<BadStore>* bad);

private:
    DeviceBlock words_;    // first_token + index of a tag's first bad token; all ones: none
    PinnedBlock arrived_;  // the same on the host
    Event fetched_ = nullptr;
    std::vector<int64_t> tags_;
    std::vector<uint64_t> reported_;  // per tag
    size_t next_ = 0;                 // where the next tag is looked for first
};

}  // namespace kvc::cuda

// A step as the device sees it that orders its work: a stream, and what steps take turns with.
#pragma once
#include <memory>

#include "kernels/cuda/bad_tokens.h"
#include "kernels/cuda/workspace.h"

namespace kvc::cuda {

class QueuedStep {
public:
    // unseen: besides what kvc queues a caller launches what kvc does not see.
    QueuedStep(Stream stream, std::unique_ptr<Workspace> workspace, std::unique_ptr<BadTokens> bad, bool unseen)
        : stream_(stream), unseen_(unseen), workspace_(std::move(workspace)), bad_(std::move(bad)) {}

protected:
    ~QueuedStep() = default;

    friend class CudaDevice;
    const Stream stream_;
    const bool unseen_;
    std::unique_ptr<Workspace> workspace_;  // nullptr: of a graph's step, which works with the graph's
    std::unique_ptr<BadTokens> bad_;

    // Kept by the device, under its lock.
    uint64_t seen_order_ = 0;  // the last of the device's own operations that the stream waits for
    bool queued_ = false;      // something since the device last waited for this stream
};

}  // namespace kvc::cuda

// The host's waits for the device, all of which are counted: nothing but the device's end waits without them.
#pragma once
#include <atomic>

#include "kernels/cuda/runtime.h"

namespace kvc::cuda {

class Waits {
public:
    Status for_stream(Stream stream) {
        count_++;
        return runtime::synchronize(stream);
    }
    // What is over already is not waited for.
    Status for_event(Event event) {
        const Result<bool> over = runtime::done(event);
        if (!over.ok() || *over) {
            return over.ok() ? Status{} : over.status();
        }
        count_++;
        return runtime::synchronize(event);
    }
    int64_t count() const { return count_; }

private:
    std::atomic<int64_t> count_ = 0;
};

}  // namespace kvc::cuda

// What a step needs on the device besides records. Steps take turns with a few, so that a server in steady state allocates nothing.
#pragma once
#include <vector>

#include "core/backend/device.h"
#include "kernels/cuda/mass_block.h"
#include "kernels/cuda/upload_ring.h"

namespace kvc::cuda {

// Bytes of each kind.
struct WorkspaceSizes {
    int64_t uploads = 0;            // of the largest table that a call uploads
    int64_t ahead = 0;              // of all tables of the steps that the host may be ahead of the device
    int64_t inputs = 0;             // host buffers that one call reads
    int64_t outputs = 0, lse = 0;   // and writes; log-sum-exps for mass
    int64_t states = 0, slabs = 0;  // partial results; the table of slabs
    int64_t page_sums = 0;
    int64_t mass = 0;  // counters that are on their way at a time

    static WorkspaceSizes of(const DeviceStep& step);
    bool covers(const WorkspaceSizes& other) const;
    // Somewhat larger, so that contexts that grow from step to step do not allocate in each.
    WorkspaceSizes rounded() const;
};

class Workspace {
public:
    // Waits for the device are counted there.
    Status create(const WorkspaceSizes& sizes, Waits* waits, HeapSource heap);
    const WorkspaceSizes& sizes() const { return sizes_; }

    // Brings the device's table of slabs in step with the arena's.
    Status set_slabs(std::byte* const* slabs, int64_t count, Stream stream);
    std::byte* const* slabs() const { return reinterpret_cast<std::byte* const*>(slabs_.data()); }

    UploadRing uploads;  // tables of jobs, each read by the launch behind it
    UploadRing inputs;   // callers' host buffers, read by all launches of a call
    DeviceBlock states, page_sums, lse, outputs;
    PinnedBlock delivery;  // where outputs arrive
    MassBlock mass;
    MassParts mass_parts;  // a call's, here because their room is kept

private:
    WorkspaceSizes sizes_;
    DeviceBlock slabs_;
    std::vector<std::byte*> known_slabs_;  // what the device's table holds once the stream has come so far
};

}  // namespace kvc::cuda

#include "kernels/cuda/workspace.h"

#include <algorithm>
#include <cstring>

#include "core/base/size.h"
#include "kernels/cuda/launch.cuh"

namespace kvc::cuda {
namespace {

constexpr int64_t least_ring = 64 * 1024;
// What an upload holds besides the tables that begin was told of: sink logits, frequencies of RoPE, gaps between tables.
constexpr int64_t upload_slack = 16 * 1024;

// The host runs so many whole steps ahead of the device before it waits, or fewer where their tables take more than that.
constexpr int64_t steps_ahead = 2, most_ahead = int64_t{64} << 20;
// What a call uploads besides its tables, gaps between uploads included, of sink logits and frequencies as large as they are found.
constexpr int64_t call_slack = 2 * 1024;

// Of attention mass: a step's calls wait for each other only where their counters take more than this.
constexpr int64_t most_mass = int64_t{16} << 20, most_mass_calls = 128;

int64_t next_power(int64_t bytes) {
    int64_t power = 4096;
    while (power < bytes) {
        power *= 2;
    }
    return bytes == 0 ? 0 : power;
}

// All that the calls of a step upload.
int64_t bytes_of_step(const DeviceStep& s) {
    const DeviceStep::Whole& all = s.whole;
    const int64_t tables = all.entries * int64_t(sizeof(PageEntry)) + all.counts * int64_t(sizeof(TokenCount));
    const int64_t attends = all.items * int64_t(sizeof(AttendItem)) + tables;
    const int64_t mass = s.lse_floats > 0 ? all.items * int64_t(sizeof(MassItem)) + tables : 0;
    return attends + mass + all.store_jobs * int64_t(sizeof(StoreJob)) + all.quantize_jobs * int64_t(sizeof(QuantizeJob)) +
           all.tiles * int64_t(sizeof(FinishTile)) + all.calls * call_slack;
}

}  // namespace

WorkspaceSizes WorkspaceSizes::of(const DeviceStep& s) {
    const int64_t attend =
        s.items * int64_t(sizeof(MassItem)) + s.entries * int64_t(sizeof(PageEntry)) + s.counts * int64_t(sizeof(TokenCount));
    const int64_t jobs = std::max(s.store_jobs * int64_t(sizeof(StoreJob)), s.quantize_jobs * int64_t(sizeof(QuantizeJob)));
    const int64_t finish = s.tiles * int64_t(sizeof(FinishTile));
    WorkspaceSizes sizes;
    sizes.uploads = std::max({attend, jobs, finish}) + upload_slack;
    // With buffers of the host each attend waits.
    sizes.ahead = !s.device_buffers ? 0 : std::min(most_ahead, steps_ahead * bytes_of_step(s) * 17 / 16 + 2 * sizes.uploads);
    sizes.inputs = s.device_buffers ? 0 : s.in_bytes;
    sizes.outputs = s.device_buffers ? 0 : s.out_bytes;
    sizes.lse = s.lse_floats * int64_t(sizeof(float));
    sizes.states = s.state_floats * int64_t(sizeof(float));
    sizes.page_sums = s.page_sums * int64_t(sizeof(PageSum));
    sizes.slabs = s.slab_count * int64_t(sizeof(std::byte*));
    if (s.lse_floats > 0) {
        const int64_t of_page = s.page_sums > 0 ? 1 : page_tokens;
        const int64_t one_call = (s.kept_entries + s.items) * of_page * int64_t(sizeof(int64_t));
        sizes.mass = std::min(most_mass, most_mass_calls * one_call);
    }
    return sizes;
}

bool WorkspaceSizes::covers(const WorkspaceSizes& other) const {
    return uploads >= other.uploads && ahead >= other.ahead && inputs >= other.inputs && outputs >= other.outputs && lse >= other.lse &&
           states >= other.states && slabs >= other.slabs && mass >= other.mass && page_sums >= other.page_sums;
}

WorkspaceSizes WorkspaceSizes::rounded() const {
    return {next_power(uploads), next_power(ahead), next_power(inputs),    next_power(outputs), next_power(lse),
            next_power(states),  next_power(slabs), next_power(page_sums), next_power(mass)};
}

Status Workspace::create(const WorkspaceSizes& sizes, Waits* waits, HeapSource heap) {
    sizes_ = sizes;
    const int64_t of_calls = std::max(least_ring, 2 * sizes.uploads), of_inputs = std::max(least_ring, 2 * sizes.inputs);
    KVC_TRY(uploads.create(std::max(2 * of_calls, sizes.ahead), of_calls, waits, heap));
    if (sizes.inputs > 0) {
        KVC_TRY(inputs.create(of_inputs, of_inputs, waits, heap));
    }
    KVC_TRY(states.allocate("partial results", sizes.states, heap));
    KVC_TRY(page_sums.allocate("sums of pages", sizes.page_sums, heap));
    KVC_TRY(lse.allocate("log-sum-exps", sizes.lse, heap));
    KVC_TRY(outputs.allocate("outputs", sizes.outputs, heap));
    KVC_TRY(delivery.allocate("outputs (pinned memory of the host)", sizes.outputs));
    KVC_TRY(mass.create(sizes.mass, heap));
    return slabs_.allocate("the table of slabs", sizes.slabs, heap);
}

Status Workspace::set_slabs(std::byte* const* slabs, int64_t count, Stream stream) {
    const int64_t known = int64_t(known_slabs_.size()), common = std::min(known, count);
    int64_t first = std::mismatch(slabs, slabs + common, known_slabs_.begin()).first - slabs;
    if (first < known) {
        known_slabs_.resize(size_t(first));
    }
    const int64_t most = uploads.most() / 2 / int64_t(sizeof(std::byte*));
    while (first < count) {
        const int64_t n = std::min(most, count - first), bytes = n * int64_t(sizeof(std::byte*));
        Result<UploadRing::Piece> piece = uploads.take(bytes, stream);
        if (!piece.ok()) {
            return piece.status();
        }
        std::memcpy(piece->host, slabs + first, size_t(bytes));
        piece->device = slabs_.data() + first * int64_t(sizeof(std::byte*));
        KVC_TRY(uploads.send(*piece, stream));
        KVC_TRY(uploads.mark(stream));
        known_slabs_.insert(known_slabs_.end(), slabs + first, slabs + first + n);
        first += n;
    }
    return {};
}

}  // namespace kvc::cuda

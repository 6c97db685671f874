// A step's kernels on the host's threads, by the functions of a kernel table.
#pragma once
#include "core/attend/thread_pool.h"
#include "core/backend/executor.h"

namespace kvc {

// Allocates nothing, and waits for the threads in every call. Results do not depend on the threads: jobs write to places of their own.
class HostExecutor : public Executor {
public:
    // scratch: of the calling thread, as much as the pool's threads have; a rehearsal writes a record there.
    HostExecutor(const KernelTable& kernels, ThreadPool& pool, std::byte* scratch)
        : kernels_(kernels), pool_(pool), scratch_(scratch) {}

    void start(size_t) override {}
    Result<const void*> input(const void* buffer, int64_t) override { return buffer; }
    Result<void*> output(void* buffer, int64_t) override { return buffer; }
    Status deliver() override { return {}; }

    BadToken rehearse(std::span<const StoreParams> jobs) override;
    Result<BadToken> append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                            std::span<const AppendGroup> groups) override;
    Status attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) override;
    Status mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) override;
    Status page_mass(int64_t group, std::span<const MassItem> items) override;
    Status finish(const FinishCall& call, std::span<const FinishTile> tiles) override;

private:
    template <class Count>
    void count(std::span<const MassItem> items, const Count& count);
    void finish_tile(const FinishCall& call, const FinishTile& tile) const;

    const KernelTable& kernels_;
    ThreadPool& pool_;
    std::byte* scratch_;
};

}  // namespace kvc

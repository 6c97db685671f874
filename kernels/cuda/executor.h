// Runs a step's kernels on a stream: job tables go through pinned memory, and a call returns when it is queued.
#pragma once
#include <memory>
#include <vector>

#include "core/backend/device.h"
#include "kernels/cuda/queued_step.h"

namespace kvc::cuda {

class CudaDevice;

class CudaExecutor final : public DeviceExecutor, public QueuedStep {
public:
    // What it works with comes from the device (begin), and goes back to it.
    CudaExecutor(std::shared_ptr<CudaDevice> device, Stream stream, bool device_buffers, std::unique_ptr<Workspace> workspace,
                 std::unique_ptr<BadTokens> bad);
    ~CudaExecutor() override;

    void start(size_t layer) override;
    Result<const void*> input(const void* buffer, int64_t bytes) override;
    Result<void*> output(void* buffer, int64_t bytes) override;
    Status deliver() override;
    BadToken rehearse(std::span<const StoreParams>) override { return {}; }  // the device finds out late
    // Groups do not matter: a stream runs one launch behind the other.
    Result<BadToken> append(std::span<const StoreParams> stores, std::span<const QuantizeParams> codes,
                            std::span<const AppendGroup> groups) override;
    Status attend(std::span<const AttendParams* const> params, std::span<const AttendItem> items) override;
    Status mass(std::span<const AttendParams* const> params, std::span<const MassItem> items) override;
    Status page_mass(int64_t group, std::span<const MassItem> items) override;
    Status finish(const FinishCall& call, std::span<const FinishTile> tiles) override;
    float* states() override { return reinterpret_cast<float*>(workspace_->states.data()); }
    PageSum* page_sums() override { return reinterpret_cast<PageSum*>(workspace_->page_sums.data()); }
    Status may_end() override;
    float* lse() override { return reinterpret_cast<float*>(workspace_->lse.data()); }

private:
    // An output in host memory: where its bytes lie in the staging, and which of them are the call's to write.
    struct Delivery {
        void* buffer;
        int64_t offset, bytes;
        int64_t first_row, end_row, row_bytes;     // of dense rows
        int64_t token_stride, head_stride, heads;  // bytes
    };

    // Items that may share a launch, and where they end in the upload.
    struct Group {
        const AttendParams* params;
        bool prompt_class;
        int64_t end = 0;
        bool operator==(const Group& other) const { return params == other.params && prompt_class == other.prompt_class; }
    };

    Status queue_stores(std::span<const StoreParams> jobs);
    Status queue_codes(std::span<const QuantizeParams> jobs);
    Status upload(const UploadRing::Piece& piece);
    // After launches: what the device gathered since order() may not hold them.
    Status queued();
    void forget_deliveries();
    Status take_deliveries();
    void note_rows(const FinishCall& call, std::span<const FinishTile> tiles);
    // Zeros where an attend is to leave sums.
    Status clear_page_sums(std::span<const AttendParams* const> params, std::span<const AttendItem> items);
    // Calls count(first, n, counters, bytes) for as many parts at a time as the block has counters and an upload has room for.
    // needs_of(part, first): what it takes. more_bytes: of each upload besides.
    template <class NeedsOf, class Count>
    Status count_in_turns(size_t n_parts, int64_t more_bytes, const NeedsOf& needs_of, const Count& count);
    Status count_pages(int64_t group, std::span<const PagesOfMass> parts, int64_t counters);
    Status count_mass(std::span<const AttendParams* const> params, std::span<const MassItem> items, int64_t counters, int64_t bytes);
    // Waits, and adds what was counted so far to the host's counters.
    Status settle_mass();

    const std::shared_ptr<CudaDevice> device_;
    const bool device_buffers_;
    std::vector<Delivery> deliveries_;
    int64_t delivery_bytes_ = 0;
    std::vector<Group> groups_;
};

}  // namespace kvc::cuda

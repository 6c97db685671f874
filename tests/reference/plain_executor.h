// A step on a plain device: what it is given is copied at the call, and computed when the device's queue comes to it.
#pragma once
#include "tests/reference/plain_device.h"

namespace kvc_plain {

class PlainExecutor : public kvc::DeviceExecutor {
public:
    PlainExecutor(PlainDevice& device, const kvc::DeviceStep& step);
    ~PlainExecutor() override;
    bool ready() const { return state_ != nullptr; }

    float* states() override;
    float* lse() override;
    kvc::PageSum* page_sums() override;
    void start(size_t) override { staged_ = 0; }  // the queue keeps order: what is staged next comes after what was staged is read
    kvc::Result<const void*> input(const void* buffer, int64_t bytes) override;
    kvc::Result<void*> output(void* buffer, int64_t bytes) override;
    kvc::Status deliver() override;
    kvc::BadToken rehearse(std::span<const kvc::StoreParams>) override { return {}; }
    kvc::Result<kvc::BadToken> append(std::span<const kvc::StoreParams> stores, std::span<const kvc::QuantizeParams> codes,
                                      std::span<const kvc::AppendGroup> groups) override;
    kvc::Status attend(std::span<const kvc::AttendParams* const> params, std::span<const kvc::AttendItem> items) override;
    kvc::Status mass(std::span<const kvc::AttendParams* const> params, std::span<const kvc::MassItem> items) override;
    kvc::Status page_mass(int64_t group, std::span<const kvc::MassItem> items) override;
    kvc::Status finish(const kvc::FinishCall& call, std::span<const kvc::FinishTile> tiles) override;

    // What has been computed, to the counters of the host.
    void add_mass();

private:
    // Device memory and results, alive as long as work in the queue needs them.
    struct State;
    struct Delivery {
        void* to;
        std::byte* from;
        int64_t bytes;
    };

    // The host's tables and formats of an item, copied, and its addresses as kernels find them.
    struct Copied;
    std::shared_ptr<Copied> copy_items(std::span<const kvc::AttendParams* const> params, std::vector<kvc::AttendItem> items);
    std::byte* stage(int64_t bytes);
    // Of the step's own memory, in front of what is staged.
    int64_t float_bytes() const;

    PlainDevice& device_;
    kvc::DeviceStep step_;
    std::shared_ptr<State> state_;
    int64_t staged_ = 0;
    std::vector<Delivery> deliveries_;
};

}  // namespace kvc_plain

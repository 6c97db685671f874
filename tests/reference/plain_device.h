// A device for tests without one: memory that the host cannot touch, and kernels of the CPU that run late.
//
// Its memory is mapped twice. Addresses that it hands out are of a mapping without any access, so whoever dereferences one on the host
// dies on the spot; kernels run over the other mapping, and an address that is not the device's where one of the device's belongs is
// reported and ends the process. What is launched waits in a queue until somebody has to wait for it, so that nothing which a real
// device sees later may be gone or changed by then.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/backend/device.h"

namespace kvc_plain {

class PlainExecutor;

class PlainDevice : public kvc::Device {
public:
    // Kernels are those of the table.
    explicit PlainDevice(const kvc::KernelTable& kernels);
    ~PlainDevice() override;

    const char* name() const override { return "plain memory"; }
    const kvc::KernelTable& records() const override { return records_; }
    int64_t waits() const override { return waits_; }
    std::byte* allocate(int64_t bytes) override;
    void release(std::byte* block) override;
    kvc::Status write(std::byte* to, const std::byte* from, int64_t bytes) override;
    kvc::Status read(const std::byte* from, std::byte* to, int64_t bytes) override;
    kvc::Status copy(const std::byte* from, std::byte* to, int64_t bytes) override;
    kvc::Status recode(std::span<const kvc::RecodeParams> jobs) override;
    kvc::Status measure(std::span<const kvc::StatisticJob> jobs) override;
    kvc::Status route(std::span<const kvc::RouteJob> jobs) override;
    kvc::Status fold(std::span<const kvc::FoldJob> jobs) override;
    kvc::Status store(std::span<const kvc::StoreParams> jobs) override;
    kvc::Status synchronize(std::vector<kvc::BadStore>* bad) override;
    // Of the host is what is not of the mapping that blocks are in.
    kvc::Status check_memory(const void* p, int64_t bytes, bool on_device) override;
    void* allocate_pinned(int64_t bytes) override;
    void release_pinned(void* block) override;
    kvc::Result<std::unique_ptr<kvc::DeviceExecutor>> begin(const kvc::DeviceStep& step) override;

    // For tests. From now on: so many more allocations succeed (-1: all); what is launched fails, and whoever waits next learns of it.
    void allow_allocations(int64_t n);
    void break_down(const std::string& reason);
    int64_t allocated_blocks();
    // How often bytes were read back, and how many pages were made by recode.
    int64_t reads() const { return reads_; }
    // Tokens whose numbers policies asked for, for which a kept one was sought, and that others joined.
    int64_t measured() const { return measured_; }
    int64_t routed() const { return routed_; }
    int64_t folded() const { return folded_; }
    int64_t pages_recoded() const { return pages_recoded_; }
    // How often the mass of tokens was summed by a pass over keys, and that of pages without one.
    int64_t mass_passes() const { return mass_passes_; }
    int64_t page_masses() const { return page_masses_; }

private:
    friend class PlainExecutor;

    // Where kernels find what lies at an address of the device.
    template <class T>
    T* near(T* address) const {
        return reinterpret_cast<T*>(reach(reinterpret_cast<std::uintptr_t>(address)));
    }
    std::uintptr_t reach(std::uintptr_t address) const;
    void launch(std::function<void()> work);
    kvc::Status wait();             // under the mutex
    kvc::Status counted_wait();     // where a GPU would wait, too
    void forget(std::byte* block);  // release, without waiting

    const kvc::KernelTable& kernels_;
    kvc::KernelTable records_;
    std::byte* far_ = nullptr;   // what it hands out
    std::byte* near_ = nullptr;  // the same bytes, to be touched

    std::atomic<int64_t> waits_ = 0;
    std::recursive_mutex mutex_;
    std::map<int64_t, int64_t> blocks_;  // offset and bytes
    std::deque<std::function<void()>> queue_;
    std::vector<kvc::BadStore> bad_;
    std::vector<PlainExecutor*> executors_;
    int64_t allowed_ = -1, reads_ = 0, pages_recoded_ = 0, measured_ = 0, routed_ = 0, folded_ = 0, mass_passes_ = 0, page_masses_ = 0;
    std::string broken_;
};

// A new device with the kernels of kernel_table(ordinal).
std::shared_ptr<PlainDevice> open_plain_device(int64_t ordinal);
// The last one that was opened, as long as somebody has it.
PlainDevice& newest_device();

}  // namespace kvc_plain

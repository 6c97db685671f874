// Handles: numbers that name a live cache, step or graph, never addresses. A call pins what it uses; destroying waits for the pins.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvc {

// 0x4B56 | kind : 4 | slot : 20 | generation : 24. Bit 63 is 0 and bits 62..56 are not all 0, so that no handle looks like an address
// of user space to a garbage collector or an analyzer.
constexpr uint64_t handle_tag = 0x4B56;
constexpr int generation_bits = 24, slot_bits_of_handle = 20;
enum class HandleKind : uint64_t { cache = 1, step = 2, graph = 3 };

template <class T, HandleKind kind>
class Registry {
public:
    // What a call holds while it uses the object.
    class Pin {
    public:
        Pin() = default;
        Pin(T* object, std::atomic<int64_t>* pins) : object_(object), pins_(pins) {}
        Pin(Pin&& other) noexcept : object_(other.object_), pins_(other.pins_) { other.pins_ = nullptr; }
        Pin& operator=(Pin&&) = delete;
        ~Pin() {
            if (pins_) pins_->fetch_sub(1, std::memory_order_release);
        }
        explicit operator bool() const { return object_ != nullptr; }
        T* operator->() const { return object_; }
        T& operator*() const { return *object_; }

    private:
        T* object_ = nullptr;
        std::atomic<int64_t>* pins_ = nullptr;
    };

    // 0 if all slots are taken. May throw std::bad_alloc; the object then stays with the caller.
    uint64_t insert(T* object) {
        std::lock_guard lock(mutex_);
        uint32_t index = 0;
        if (!free_.empty()) {
            index = free_.back();
            free_.pop_back();
        } else {
            if (used_ == slot_limit) return 0;
            if (used_ % block_slots == 0) blocks_[used_ / block_slots].store(new Slot[block_slots], std::memory_order_release);
            free_.reserve(used_ + 1);  // so that removing never allocates
            index = used_++;
        }
        Slot& slot = slot_at(index);
        slot.object = object;
        const uint64_t handle = handle_tag << 48 | uint64_t(kind) << 44 | uint64_t{index} << generation_bits | slot.generation;
        slot.handle.store(handle, std::memory_order_release);
        return handle;
    }

    Pin find(uint64_t handle) {
        Slot* slot = slot_of(handle);
        if (!slot) return {};
        slot->pins.fetch_add(1, std::memory_order_seq_cst);
        if (slot->handle.load(std::memory_order_seq_cst) == handle) return Pin(slot->object, &slot->pins);
        slot->pins.fetch_sub(1, std::memory_order_release);
        return {};
    }

    // Makes the handle stale, waits for calls that use it, and hands the object over; nullptr if it was stale already.
    T* remove(uint64_t handle) {
        Slot* slot = slot_of(handle);
        if (!slot || !slot->handle.compare_exchange_strong(handle, 0, std::memory_order_seq_cst)) return nullptr;
        while (slot->pins.load(std::memory_order_acquire) > 0)
            std::this_thread::yield();
        T* object = slot->object;
        slot->object = nullptr;
        std::lock_guard lock(mutex_);
        // A slot whose generation would wrap is retired.
        if (++slot->generation < generation_limit) free_.push_back(uint32_t(handle >> generation_bits & (slot_limit - 1)));
        return object;
    }

private:
    static constexpr uint32_t slot_limit = 1u << slot_bits_of_handle;
    static constexpr uint32_t block_slots = 1024;
    static constexpr uint32_t generation_limit = 1u << generation_bits;

    struct Slot {
        std::atomic<uint64_t> handle{0};
        std::atomic<int64_t> pins{0};
        T* object = nullptr;
        uint32_t generation = 1;
    };

    Slot& slot_at(uint32_t index) { return blocks_[index / block_slots].load(std::memory_order_relaxed)[index % block_slots]; }
    Slot* slot_of(uint64_t handle) {
        if (handle >> 48 != handle_tag || (handle >> 44 & 15) != uint64_t(kind)) return nullptr;
        const uint32_t index = uint32_t(handle >> generation_bits & (slot_limit - 1));
        Slot* block = blocks_[index / block_slots].load(std::memory_order_acquire);
        return block ? block + index % block_slots : nullptr;
    }

    std::mutex mutex_;
    // Made under the mutex, read without it by whoever brings a number that may be a handle; never freed, as the registry is not.
    std::atomic<Slot*> blocks_[slot_limit / block_slots] = {};
    std::vector<uint32_t> free_;
    uint32_t used_ = 0;
};

}  // namespace kvc

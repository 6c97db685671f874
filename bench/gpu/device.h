// Memory and time of the machine that the kernels run on: device_cuda.cu answers for a GPU, device_emulated.cpp for the emulator, so that
// the whole program can be tried where there is no GPU. Failures of the machine end the program with what it said.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace kvc_bench {

struct DeviceInfo {
    std::string name, driver, runtime;
    int multiprocessors = 0;
    int64_t l2_bytes = 0, memory_bytes = 0;
    bool timed = false;  // false: times are the emulator's and say nothing of a GPU
};
DeviceInfo device_info();

class Memory {
public:
    explicit Memory(int64_t bytes);
    ~Memory();
    Memory(Memory&& other) noexcept : data_(other.data_), bytes_(other.bytes_) { other.data_ = nullptr; }
    Memory& operator=(Memory&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    std::byte* data() const { return data_; }
    int64_t bytes() const { return bytes_; }
    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

private:
    std::byte* data_ = nullptr;
    int64_t bytes_ = 0;
};

void to_device(void* to, const void* from, int64_t bytes);
void from_device(void* to, const void* from, int64_t bytes);
// In the order of the launches, as they are.
void copy_on_device(void* to, const void* from, int64_t bytes);
void clear_on_device(void* at, int64_t bytes);
// Returns when all launches are done.
void wait_for_device();

template <class T>
Memory on_device(const std::vector<T>& items) {
    Memory memory(int64_t(items.size() * sizeof(T)));
    to_device(memory.data(), items.data(), memory.bytes());
    return memory;
}

// Microseconds that the launches of `round` take together, one number a sample; warm, and without what the host does to launch them.
std::vector<double> time_rounds(const std::function<void()>& round, int samples);

double median_of(std::vector<double> numbers);

}  // namespace kvc_bench

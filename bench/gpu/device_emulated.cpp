// device.h on the CPU, over the emulator of kernels/simt.
#include <chrono>
#include <cstring>
#include <new>

#include "bench/gpu/device_stream.h"

namespace kvc_bench {

kvc::simt::Stream device_stream() {
    static kvc::simt::Machine machine;
    return &machine;
}

DeviceInfo device_info() { return {"emulator on the CPU", "none", "none", 2, 1 << 16, 0, false}; }

Memory::Memory(int64_t bytes) : data_(static_cast<std::byte*>(::operator new(size_t(bytes), std::align_val_t{256}))), bytes_(bytes) {}

Memory::~Memory() { ::operator delete(data_, std::align_val_t{256}); }

void to_device(void* to, const void* from, int64_t bytes) { std::memcpy(to, from, size_t(bytes)); }
void from_device(void* to, const void* from, int64_t bytes) { std::memcpy(to, from, size_t(bytes)); }
void copy_on_device(void* to, const void* from, int64_t bytes) { std::memcpy(to, from, size_t(bytes)); }
void clear_on_device(void* at, int64_t bytes) { std::memset(at, 0, size_t(bytes)); }
void wait_for_device() {}

std::vector<double> time_rounds(const std::function<void()>& round, int samples) {
    std::vector<double> microseconds;
    for (int i = 0; i < samples; i++) {
        const auto begin = std::chrono::steady_clock::now();
        round();
        microseconds.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
    }
    return microseconds;
}

}  // namespace kvc_bench

// device.h on a GPU. Rounds are captured as a graph, whose replays are timed by events.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "bench/gpu/device_stream.h"

namespace kvc_bench {
namespace {

constexpr double warm_up_seconds = 0.05;

#define KVC_CHECKED(call) checked(call, #call)

void checked(cudaError_t error, const char* call) {
    if (error != cudaSuccess) {
        std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
        std::exit(EXIT_FAILURE);
    }
}

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

}  // namespace

kvc::simt::Stream device_stream() {
    static const cudaStream_t stream = [] {
        cudaStream_t s = nullptr;
        KVC_CHECKED(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
        return s;
    }();
    return stream;
}

DeviceInfo device_info() {
    cudaDeviceProp device{};
    int driver = 0, runtime = 0;
    KVC_CHECKED(cudaGetDeviceProperties(&device, 0));
    KVC_CHECKED(cudaDriverGetVersion(&driver));
    KVC_CHECKED(cudaRuntimeGetVersion(&runtime));
    return {device.name,
            version_text(driver),
            version_text(runtime),
            device.multiProcessorCount,
            device.l2CacheSize,
            int64_t(device.totalGlobalMem),
            true};
}

Memory::Memory(int64_t bytes) : bytes_(bytes) { KVC_CHECKED(cudaMalloc(&data_, size_t(bytes > 0 ? bytes : 1))); }

Memory::~Memory() { cudaFree(data_); }

void to_device(void* to, const void* from, int64_t bytes) {
    wait_for_device();
    KVC_CHECKED(cudaMemcpy(to, from, size_t(bytes), cudaMemcpyHostToDevice));
}

void from_device(void* to, const void* from, int64_t bytes) {
    wait_for_device();
    KVC_CHECKED(cudaMemcpy(to, from, size_t(bytes), cudaMemcpyDeviceToHost));
}

void copy_on_device(void* to, const void* from, int64_t bytes) {
    KVC_CHECKED(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToDevice, device_stream()));
}

void clear_on_device(void* at, int64_t bytes) { KVC_CHECKED(cudaMemsetAsync(at, 0, size_t(bytes), device_stream())); }

void wait_for_device() {
    KVC_CHECKED(cudaGetLastError());
    KVC_CHECKED(cudaStreamSynchronize(device_stream()));
}

std::vector<double> time_rounds(const std::function<void()>& round, int samples) {
    const cudaStream_t stream = device_stream();
    round();  // the first launch of a kernel loads it, which a graph cannot
    wait_for_device();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    KVC_CHECKED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    round();
    KVC_CHECKED(cudaStreamEndCapture(stream, &graph));
    KVC_CHECKED(cudaGraphInstantiate(&replay, graph, 0));
    const auto begin = std::chrono::steady_clock::now();
    do {
        KVC_CHECKED(cudaGraphLaunch(replay, stream));
        wait_for_device();
    } while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < warm_up_seconds);
    cudaEvent_t before = nullptr, after = nullptr;
    KVC_CHECKED(cudaEventCreate(&before));
    KVC_CHECKED(cudaEventCreate(&after));
    std::vector<double> microseconds;
    for (int i = 0; i < samples; i++) {
        float milliseconds = 0;
        KVC_CHECKED(cudaEventRecord(before, stream));
        KVC_CHECKED(cudaGraphLaunch(replay, stream));
        KVC_CHECKED(cudaEventRecord(after, stream));
        KVC_CHECKED(cudaEventSynchronize(after));
        KVC_CHECKED(cudaEventElapsedTime(&milliseconds, before, after));
        microseconds.push_back(1e3 * double(milliseconds));
    }
    wait_for_device();
    KVC_CHECKED(cudaEventDestroy(before));
    KVC_CHECKED(cudaEventDestroy(after));
    KVC_CHECKED(cudaGraphExecDestroy(replay));
    KVC_CHECKED(cudaGraphDestroy(graph));
    return microseconds;
}

}  // namespace kvc_bench

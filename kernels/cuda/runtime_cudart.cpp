// The runtime by NVIDIA's static library, which looks for the driver when it is first called: without one, calls fail and say so.
#include <cstdio>
#include <cuda_runtime.h>

#include "kernels/cuda/runtime.h"

namespace kvc::cuda::runtime {
namespace {

cudaGraphExec_t native(CapturedGraph graph) { return reinterpret_cast<cudaGraphExec_t>(graph); }
cudaEvent_t native(Event event) { return reinterpret_cast<cudaEvent_t>(event); }
cudaMemPool_t native(Pool pool) { return reinterpret_cast<cudaMemPool_t>(pool); }

cudaStreamCaptureMode native(CaptureMode mode) {
    return mode == CaptureMode::global  ? cudaStreamCaptureModeGlobal
           : mode == CaptureMode::local ? cudaStreamCaptureModeThreadLocal
                                        : cudaStreamCaptureModeRelaxed;
}

CaptureMode mode_of(cudaStreamCaptureMode mode) {
    return mode == cudaStreamCaptureModeGlobal        ? CaptureMode::global
           : mode == cudaStreamCaptureModeThreadLocal ? CaptureMode::local
                                                      : CaptureMode::relaxed;
}

// A capture is no fault of the device, and must not cost the cache.
Code code_of_error(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return Code::no_memory;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
        return Code::capture;
    default:
        return Code::device;
    }
}

Status status_of(const char* what, cudaError_t error) {
    if (error == cudaSuccess) {
        return {};
    }
    cudaGetLastError();  // an error that a call has returned is not reported by the next launch once more
    return fail(code_of_error(error), "CUDA: ", what, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
}

Status copy_bytes(const char* what, std::byte* to, const std::byte* from, int64_t bytes, cudaMemcpyKind kind, Stream stream) {
    return status_of(what, cudaMemcpyAsync(to, from, size_t(bytes), kind, stream));
}

}  // namespace

Versions versions() {
    Versions found = {};
    if (cudaDriverGetVersion(&found.driver) != cudaSuccess || cudaRuntimeGetVersion(&found.runtime) != cudaSuccess) {
        cudaGetLastError();
    }
    return found;
}

Result<int> device_count() {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count == 0) {
        error = cudaErrorNoDevice;
    }
    if (error != cudaSuccess) {
        cudaGetLastError();
        return fail(error == cudaErrorInsufficientDriver ? Code::unsupported : Code::device, cudaGetErrorString(error));
    }
    return count;
}

Result<Properties> properties(int ordinal) {
    cudaDeviceProp found;
    KVC_TRY(status_of("properties of the device", cudaGetDeviceProperties(&found, ordinal)));
    Properties out = {};
    std::snprintf(out.name, sizeof out.name, "%s", found.name);
    out.major = found.major;
    out.minor = found.minor;
    out.block_shared = int(found.sharedMemPerBlockOptin);
    return out;
}

Result<int> code_of(const void* kernel) {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    switch (error) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:  // of runtimes before 12
    case cudaErrorInvalidKernelImage:
    case cudaErrorInvalidPtx:  // there is PTX, and the driver cannot compile it
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
        cudaGetLastError();
        return fail(Code::unsupported, cudaGetErrorString(error));
    default:
        KVC_TRY(status_of("code for the device", error));
        return attributes.ptxVersion;
    }
}

Result<Place> place_of(const void* p) {
    cudaPointerAttributes found = {};
    const cudaError_t error = cudaPointerGetAttributes(&found, p);
    if (error == cudaErrorInvalidValue) {  // an address that nothing can have: nobody's is the host's
        cudaGetLastError();
        return Place{Owner::host, -1};
    }
    KVC_TRY(status_of("whose memory an address is of", error));
    switch (found.type) {
    case cudaMemoryTypeDevice:
        return Place{Owner::device, found.device};
    case cudaMemoryTypeManaged:
        return Place{Owner::all, -1};
    default:  // pinned by the runtime, or not known to it
        return Place{Owner::host, -1};
    }
}

int selected() {
    int ordinal = -1;
    if (cudaGetDevice(&ordinal) != cudaSuccess) {
        cudaGetLastError();
        return -1;
    }
    return ordinal;
}

Status select(int ordinal) { return status_of("selecting the device", cudaSetDevice(ordinal)); }

Result<std::byte*> allocate(int64_t bytes) {
    void* block = nullptr;
    KVC_TRY(status_of("allocation", cudaMalloc(&block, size_t(bytes))));
    return static_cast<std::byte*>(block);
}

void release(std::byte* block) {
    cudaFree(block);
    cudaGetLastError();
}

Result<bool> has_pools(int ordinal) {
    int has = 0;
    KVC_TRY(status_of("whether the device has memory pools", cudaDeviceGetAttribute(&has, cudaDevAttrMemoryPoolsSupported, ordinal)));
    return has != 0;
}

Result<Pool> default_pool(int ordinal) {
    cudaMemPool_t pool = nullptr;
    KVC_TRY(status_of("the device's memory pool", cudaDeviceGetDefaultMemPool(&pool, ordinal)));
    return reinterpret_cast<Pool>(pool);
}

Result<Pool> create_pool(int ordinal) {
    cudaMemPoolProps wanted = {};
    wanted.allocType = cudaMemAllocationTypePinned;
    wanted.location.type = cudaMemLocationTypeDevice;
    wanted.location.id = ordinal;
    cudaMemPool_t pool = nullptr;
    KVC_TRY(status_of("creation of a memory pool", cudaMemPoolCreate(&pool, &wanted)));
    uint64_t all = UINT64_MAX;
    const Status keeps = status_of("what a memory pool keeps", cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all));
    if (!keeps.ok()) {
        destroy_pool(reinterpret_cast<Pool>(pool));
        return keeps;
    }
    return reinterpret_cast<Pool>(pool);
}

void destroy_pool(Pool pool) {
    cudaMemPoolDestroy(native(pool));
    cudaGetLastError();
}

Result<std::byte*> allocate_in(Pool pool, int64_t bytes, Stream stream) {
    void* block = nullptr;
    KVC_TRY(status_of("allocation in a pool", cudaMallocFromPoolAsync(&block, size_t(bytes), native(pool), stream)));
    return static_cast<std::byte*>(block);
}

void release_in(std::byte* block, Stream stream) {
    cudaFreeAsync(block, stream);
    cudaGetLastError();
}

Status trim(Pool pool) { return status_of("what a memory pool keeps", cudaMemPoolTrimTo(native(pool), 0)); }

Result<std::byte*> allocate_pinned(int64_t bytes) {
    void* block = nullptr;
    KVC_TRY(status_of("pinned allocation", cudaHostAlloc(&block, size_t(bytes), cudaHostAllocPortable)));
    return static_cast<std::byte*>(block);
}

void release_pinned(std::byte* block) {
    cudaFreeHost(block);
    cudaGetLastError();
}

Status copy_in(std::byte* to, const std::byte* from_pinned, int64_t bytes, Stream stream) {
    return copy_bytes("copy to the device", to, from_pinned, bytes, cudaMemcpyHostToDevice, stream);
}

Status copy_out(std::byte* to_pinned, const std::byte* from, int64_t bytes, Stream stream) {
    return copy_bytes("copy from the device", to_pinned, from, bytes, cudaMemcpyDeviceToHost, stream);
}

Status copy(std::byte* to, const std::byte* from, int64_t bytes, Stream stream) {
    return copy_bytes("copy on the device", to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}

Status fill(std::byte* to, int value, int64_t bytes, Stream stream) {
    return status_of("fill", cudaMemsetAsync(to, value, size_t(bytes), stream));
}

Result<Stream> create_stream() {
    cudaStream_t stream = nullptr;
    KVC_TRY(status_of("creation of a stream", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    return stream;
}

// Runtimes and drivers before 12.8 cannot tell: there a stream of another device shows at the first launch.
Result<int> device_of(Stream stream) {
#if CUDART_VERSION >= 12080
    int ordinal = -1;
    const cudaError_t error = cudaStreamGetDevice(stream, &ordinal);
    if (error != cudaErrorCallRequiresNewerDriver) {
        KVC_TRY(status_of("the device of a stream", error));
        return ordinal;
    }
    cudaGetLastError();
#else
    (void)stream;
#endif
    return selected();
}

void destroy_stream(Stream stream) {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
    cudaGetLastError();
}

Status synchronize(Stream stream) { return status_of("the stream's work", cudaStreamSynchronize(stream)); }
Status synchronize_device() { return status_of("the device's work", cudaDeviceSynchronize()); }

Result<Event> create_event() {
    cudaEvent_t event = nullptr;
    KVC_TRY(status_of("creation of an event", cudaEventCreateWithFlags(&event, cudaEventDisableTiming)));
    return reinterpret_cast<Event>(event);
}

void destroy_event(Event event) {
    cudaEventDestroy(native(event));
    cudaGetLastError();
}

Status record(Event event, Stream stream) { return status_of("an event", cudaEventRecord(native(event), stream)); }
Status wait(Stream stream, Event event) { return status_of("an event", cudaStreamWaitEvent(stream, native(event), 0)); }
Status synchronize(Event event) { return status_of("the work before an event", cudaEventSynchronize(native(event))); }

Result<bool> done(Event event) {
    const cudaError_t error = cudaEventQuery(native(event));
    if (error == cudaErrorNotReady) {
        cudaGetLastError();
        return false;
    }
    KVC_TRY(status_of("an event", error));
    return true;
}

Result<bool> is_capturing(Stream stream) {
    cudaStreamCaptureStatus found = cudaStreamCaptureStatusNone;
    KVC_TRY(status_of("whether a stream is captured", cudaStreamIsCapturing(stream, &found)));
    return found != cudaStreamCaptureStatusNone;
}

Result<CaptureMode> exchange_capture_mode(CaptureMode mode) {
    cudaStreamCaptureMode exchanged = native(mode);
    KVC_TRY(status_of("the thread's capture mode", cudaThreadExchangeStreamCaptureMode(&exchanged)));
    return mode_of(exchanged);
}

Status begin_capture(Stream stream, CaptureMode mode) {
    return status_of("begin of a capture", cudaStreamBeginCapture(stream, native(mode)));
}

Result<CapturedGraph> end_capture(Stream stream) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    KVC_TRY(status_of("end of a capture", cudaStreamEndCapture(stream, &graph)));
    const cudaError_t error = cudaGraphInstantiateWithFlags(&executable, graph, 0);
    cudaGraphDestroy(graph);
    KVC_TRY(status_of("instantiation of a graph", error));
    return reinterpret_cast<CapturedGraph>(executable);
}

Status launch(CapturedGraph graph, Stream stream) { return status_of("launch of a graph", cudaGraphLaunch(native(graph), stream)); }

void destroy_graph(CapturedGraph graph) {
    cudaGraphExecDestroy(native(graph));
    cudaGetLastError();
}

Status launched() { return status_of("launch", cudaGetLastError()); }

}  // namespace kvc::cuda::runtime

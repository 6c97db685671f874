// The device side of simt.cuh: PTX and CUDA built-ins, one function each. kernels/simt/host.h is the other side, function by function.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define KVC_DEVICE __device__ __forceinline__
#define KVC_HOST_DEVICE __host__ __device__ __forceinline__
// blocks: how many must fit on a multiprocessor, which caps the registers.
#define KVC_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define KVC_SHARED(type, name) __shared__ type name
#define KVC_UNROLL _Pragma("unroll")
#define KVC_NO_UNROLL _Pragma("unroll 1")

namespace kvc::simt {

struct Words2 {
    uint32_t w[2];
};
struct Words4 {
    uint32_t w[4];
};

KVC_DEVICE int thread() { return int(threadIdx.x); }
KVC_DEVICE int lane() { return int(threadIdx.x & 31); }
KVC_DEVICE int warp() { return int(threadIdx.x >> 5); }
// The thread's number, read anew: what is computed from it is computed again in every turn of a loop and occupies no registers meanwhile.
KVC_DEVICE int thread_anew() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}
// The lane's number likewise, without arithmetic.
KVC_DEVICE int lane_anew() {
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
KVC_DEVICE int block_x() { return int(blockIdx.x); }
KVC_DEVICE int block_y() { return int(blockIdx.y); }

// ---- warp and block ----

KVC_DEVICE void sync_block() { __syncthreads(); }
KVC_DEVICE void sync_warp() { __syncwarp(); }
KVC_DEVICE bool any(bool p) { return __any_sync(0xffffffffu, p); }
KVC_DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
KVC_DEVICE float shuffle(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
template <class T>
KVC_DEVICE T* shuffle(T* p, int lane) {
    return reinterpret_cast<T*>(__shfl_sync(0xffffffffu, reinterpret_cast<unsigned long long>(p), lane));
}
// Bit i: what lane i brings.
KVC_DEVICE uint32_t ballot(bool p) { return __ballot_sync(0xffffffffu, p); }
KVC_DEVICE long long shuffle_xor(long long x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
KVC_DEVICE double shuffle_xor(double x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
KVC_DEVICE void atomic_add(int64_t* at, int64_t x) {
    atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(x));
}
// Keeps the least of what all threads bring; the value before it is not needed.
KVC_DEVICE void atomic_min(unsigned long long* at, unsigned long long x) { atomicMin(at, x); }

// ---- tensor cores: c += a (16 x 16 halves, row major) * b (16 x 8) ----

KVC_DEVICE void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    float d[4];
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
    c[0] = d[0];
    c[1] = d[1];
    c[2] = d[2];
    c[3] = d[3];
}
// Four zeros as a product's result, which are four registers in a row at first.
KVC_DEVICE void zeros_of_mma(float (&c)[4]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%5,%5,%5,%5};"
                 : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
                 : "r"(0), "f"(0.0f));
}
// mma() of bf16 numbers.
KVC_DEVICE void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    float d[4];
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
    c[0] = d[0];
    c[1] = d[1];
    c[2] = d[2];
    c[3] = d[3];
}
// Transposes an 8 x 8 matrix of halves that lies in the warp, two in a lane.
KVC_DEVICE uint32_t transpose_8x8(uint32_t x) {
    uint32_t y;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

// ---- memory that no kernel of the launch writes, read once ----

// Holds an address in a register, so that the compiler adds only constants to it and does not spread its sum over many.
template <class T>
KVC_DEVICE const T* pin(const T* p) {
    asm volatile("" : "+l"(p));
    return p;
}

KVC_DEVICE Words4 load_128(const void* p) {
    Words4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3]) : "l"(p));
    return v;
}
KVC_DEVICE Words2 load_64(const void* p) {
    Words2 v;
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.w[0]), "=r"(v.w[1]) : "l"(p));
    return v;
}
KVC_DEVICE uint32_t load_32(const void* p) {
    uint32_t v;
    asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

// Before a number of a caller's buffer is read or written, which is as aligned as its caller made it: here the machine itself traps.
template <class T>
KVC_DEVICE void require_aligned(const T*) {}

// ---- shared memory whose size the launch says, and bulk copies into it (sm_90 and later) ----

KVC_DEVICE std::byte* dynamic_shared() {
    extern __shared__ __align__(128) unsigned char kvc_dynamic_shared[];
    return reinterpret_cast<std::byte*>(kvc_dynamic_shared);
}

// The architecture that the machine code at hand is for: 90 of sm_90 and sm_90a. Before 90 there are no bulk copies, and nothing of what
// follows is called.
KVC_DEVICE constexpr int architecture() {
#if defined(__CUDA_ARCH__)
    return __CUDA_ARCH__ / 10;
#else
    return 0;
#endif
}

// Whether this is machine code for sm_100 or later. It decides how code is laid out, never what it computes.
KVC_DEVICE constexpr bool is_blackwell() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
    return true;
#else
    return false;
#endif
}

// How many fragments behind their products the prompt kernels write a page's sums. It decides what ptxas makes of the code, never what the
// code computes: each architecture has the number with which least goes to local memory (docs/design/cuda.md, 4).
KVC_DEVICE constexpr int sums_behind() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
    return 1;
#else
    return 0;
#endif
}

// Counts the bytes that are still to come (an mbarrier with one arrival a phase).
struct CopyBarrier {
    unsigned long long state;
};
KVC_DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// By one lane, before the block or warp synchronizes.
KVC_DEVICE void init(CopyBarrier* barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
// By one lane: the next phase ends when so many bytes have come.
KVC_DEVICE void expect(CopyBarrier* barrier, int bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
#endif
}
// By one lane: 16-byte aligned, a multiple of 16 bytes.
KVC_DEVICE void bulk_copy(std::byte* shared, const std::byte* global, int bytes, CopyBarrier* barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
#endif
}
// By all lanes: until the phase of that parity has ended.
KVC_DEVICE void wait(CopyBarrier* barrier, uint32_t parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
#endif
}

// ---- bytes that a page is read from: in global memory, or in shared memory after their copy has come ----

struct GlobalBytes {
    const std::byte* at;

    KVC_DEVICE GlobalBytes plus(int offset) const { return {pin(at + offset)}; }
    KVC_DEVICE Words4 load_128(int offset) const { return simt::load_128(at + offset); }
    KVC_DEVICE Words2 load_64(int offset) const { return simt::load_64(at + offset); }
    KVC_DEVICE uint32_t load_32(int offset) const { return simt::load_32(at + offset); }
};

// Volatile, so that no load is taken for the same load of another page.
struct SharedBytes {
    uint32_t at;

    static KVC_DEVICE SharedBytes of(const std::byte* p) { return {shared_address(p)}; }
    KVC_DEVICE SharedBytes plus(int offset) const {
        uint32_t p = at + offset;
        asm volatile("" : "+r"(p));
        return {p};
    }
    KVC_DEVICE Words4 load_128(int offset) const {
        Words4 v;
        asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                     : "r"(at + offset));
        return v;
    }
    KVC_DEVICE Words2 load_64(int offset) const {
        Words2 v;
        asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.w[0]), "=r"(v.w[1]) : "r"(at + offset));
        return v;
    }
    KVC_DEVICE uint32_t load_32(int offset) const {
        uint32_t v;
        asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at + offset));
        return v;
    }
};

// ---- bits and numbers ----

// Of a word that is not 0.
KVC_DEVICE int lowest_bit(uint32_t x) { return __ffs(int(x)) - 1; }
KVC_DEVICE int count_bits(uint64_t x) { return __popcll(x); }

// Byte i of the result is byte (selector >> 4 i) & 7 of the eight bytes low, high.
KVC_DEVICE uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) { return __byte_perm(low, high, selector); }
KVC_DEVICE uint32_t bits_of_float(float x) { return __float_as_uint(x); }
KVC_DEVICE float float_of_bits(uint32_t x) { return __uint_as_float(x); }

KVC_DEVICE float half_to_float(uint32_t bits) { return __half2float(__ushort_as_half(static_cast<unsigned short>(bits))); }
KVC_DEVICE uint16_t float_to_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
KVC_DEVICE uint32_t pack_halves(float low, float high) {
    const __half2 h = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&h);
}
// Two bf16 numbers, rounded half to even.
KVC_DEVICE uint32_t pack_bfloats(float low, float high) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
KVC_DEVICE uint32_t multiply_halves(uint32_t a, uint32_t b) {
    uint32_t r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

KVC_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
KVC_DEVICE double fma(double a, double b, double c) { return __fma_rn(a, b, c); }
KVC_DEVICE double round(double x) { return rint(x); }
// A product that no later addition is fused with.
KVC_DEVICE float multiply(float a, float b) { return __fmul_rn(a, b); }
// Half to even; below 2^31.
KVC_DEVICE int round_to_int(float x) { return __float2int_rn(x); }
KVC_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
KVC_DEVICE float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
KVC_DEVICE float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
KVC_DEVICE float square_root(float x) { return __fsqrt_rn(x); }
KVC_DEVICE double square_root(double x) { return __dsqrt_rn(x); }
KVC_DEVICE float log(float x) { return logf(x); }
KVC_DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

// ---- launches ----

using Stream = cudaStream_t;

struct Grid {
    int blocks_x, blocks_y, threads;
    int shared_bytes = 0;  // dynamic ones, a block
};

template <class Kernel, class... Args>
void launch(Kernel kernel, const Grid& grid, Stream stream, const Args&... args) {
    if (grid.shared_bytes > 48 * 1024) {
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, grid.shared_bytes);
    }
    kernel<<<dim3(unsigned(grid.blocks_x), unsigned(grid.blocks_y)), unsigned(grid.threads), size_t(grid.shared_bytes), stream>>>(
        args...);
}

template <class Kernel, class... Args>
void launch(Kernel kernel, int blocks_x, int blocks_y, int threads, Stream stream, const Args&... args) {
    launch(kernel, Grid{blocks_x, blocks_y, threads}, stream, args...);
}

// The architecture() of this kernel's code that the device would run; 0: it has none, which the device was asked when it was opened.
template <class Kernel>
int architecture_of(Kernel kernel, Stream) {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess ? attributes.ptxVersion : 0;
}

}  // namespace kvc::simt

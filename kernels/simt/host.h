// The emulated side of simt.cuh: each function does on the CPU, lane by lane, what kernels/cuda/device.cuh asks of a GPU.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/base/half.h"
#include "kernels/simt/machine.h"

#define KVC_DEVICE inline
#define KVC_HOST_DEVICE inline
#define KVC_KERNEL(threads, blocks) void
#define KVC_SHARED(type, name) auto& name = ::kvc::simt::shared_piece<std::type_identity_t<type>>()
#define KVC_UNROLL
#define KVC_NO_UNROLL

namespace kvc::simt {

struct Words2 {
    uint32_t w[2];
};
struct Words4 {
    uint32_t w[4];
};

inline int thread() { return Machine::current().thread(); }
inline int lane() { return thread() % warp_lanes; }
inline int warp() { return thread() / warp_lanes; }
inline int thread_anew() { return thread(); }
inline int lane_anew() { return lane(); }
inline int block_x() { return Machine::current().block_x(); }
inline int block_y() { return Machine::current().block_y(); }

template <class T>
T& shared_piece(const Site& site = Site::current()) {
    return *static_cast<T*>(Machine::current().shared(sizeof(T), alignof(T) < 16 ? 16 : alignof(T), site));
}

// ---- warp and block ----

void sync_block(const Site& site = Site::current());
void sync_warp(const Site& site = Site::current());
bool any(bool p, const Site& site = Site::current());
float shuffle_xor(float x, int mask, const Site& site = Site::current());
float shuffle(float x, int lane, const Site& site = Site::current());
uintptr_t shuffle_address(uintptr_t p, int lane, const Site& site);
template <class T>
T* shuffle(T* p, int from, const Site& site = Site::current()) {
    return reinterpret_cast<T*>(shuffle_address(reinterpret_cast<uintptr_t>(p), from, site));
}
uint32_t ballot(bool p, const Site& site = Site::current());
inline long long shuffle_xor(long long x, int mask, const Site& site = Site::current()) {
    return static_cast<long long>(shuffle_address(uintptr_t(x), lane() ^ mask, site));
}
inline double shuffle_xor(double x, int mask, const Site& site = Site::current()) {
    return std::bit_cast<double>(uint64_t{shuffle_address(uintptr_t{std::bit_cast<uint64_t>(x)}, lane() ^ mask, site)});
}
inline void atomic_add(int64_t* at, int64_t x) { *at += x; }
// Only one fiber runs at a time, so every access is atomic.
inline void atomic_min(unsigned long long* at, unsigned long long x) { *at = x < *at ? x : *at; }

// ---- tensor cores ----

void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
         const Site& site = Site::current());
inline void zeros_of_mma(float (&c)[4]) { c[0] = c[1] = c[2] = c[3] = 0.0f; }
void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
              const Site& site = Site::current());
uint32_t transpose_8x8(uint32_t x, const Site& site = Site::current());

// ---- memory: what a GPU traps on, an address that is no multiple of the access, is a fault ----

template <class T>
const T* pin(const T* p) {
    return p;
}
inline void require_aligned(const void* p, size_t bytes, const Site& site) {
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
        Machine::current().fault("address of ", int64_t(bytes), " bytes is misaligned", site);
    }
}
// Inline, so that it is the kernel's code that reads, which sanitizers watch.
template <class T>
T load(const void* p, const Site& site) {
    require_aligned(p, sizeof(T), site);
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline Words4 load_128(const void* p, const Site& site = Site::current()) { return load<Words4>(p, site); }
inline Words2 load_64(const void* p, const Site& site = Site::current()) { return load<Words2>(p, site); }
inline uint32_t load_32(const void* p, const Site& site = Site::current()) { return load<uint32_t>(p, site); }

// A number of a caller's buffer, which kernels read and write as it is.
template <class T>
void require_aligned(const T* p, const Site& site = Site::current()) {
    require_aligned(p, sizeof(T), site);
}

// ---- dynamic shared memory, and bulk copies into it ----

inline std::byte* dynamic_shared() { return Machine::current().dynamic_shared(); }
inline int architecture() { return Machine::current().architecture(); }
inline bool is_blackwell() { return architecture() >= 100; }
inline int sums_behind() { return architecture() >= 120 ? 1 : 0; }

struct CopyBarrier {
    unsigned long long phases;  // that have ended
};
void init(CopyBarrier* barrier);
void expect(CopyBarrier* barrier, int bytes, const Site& site = Site::current());
// The bytes come when somebody waits for them; until then the place holds NaN.
void bulk_copy(std::byte* shared, const std::byte* global, int bytes, CopyBarrier* barrier, const Site& site = Site::current());
void wait(CopyBarrier* barrier, uint32_t parity, const Site& site = Site::current());

struct GlobalBytes {
    const std::byte* at;

    GlobalBytes plus(int offset) const { return {at + offset}; }
    Words4 load_128(int offset, const Site& site = Site::current()) const { return simt::load_128(at + offset, site); }
    Words2 load_64(int offset, const Site& site = Site::current()) const { return simt::load_64(at + offset, site); }
    uint32_t load_32(int offset, const Site& site = Site::current()) const { return simt::load_32(at + offset, site); }
};
struct SharedBytes : GlobalBytes {
    static SharedBytes of(const std::byte* p) { return {{p}}; }
    SharedBytes plus(int offset) const { return {{at + offset}}; }
};

// ---- bits and numbers ----

inline int lowest_bit(uint32_t x) { return std::countr_zero(x); }
inline int count_bits(uint64_t x) { return std::popcount(x); }

inline uint32_t permute_bytes(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = uint64_t(high) << 32 | low;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) {
        out |= uint32_t(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
    }
    return out;
}
inline uint32_t bits_of_float(float x) { return std::bit_cast<uint32_t>(x); }
inline float float_of_bits(uint32_t x) { return std::bit_cast<float>(x); }

inline float half_to_float(uint32_t bits) { return f32_from_f16(uint16_t(bits)); }
inline uint16_t float_to_half(float x) { return f16_from_f32(x); }
inline uint32_t pack_halves(float low, float high) { return uint32_t(f16_from_f32(high)) << 16 | f16_from_f32(low); }
inline uint32_t pack_bfloats(float low, float high) { return uint32_t(bf16_from_f32(high)) << 16 | bf16_from_f32(low); }
inline uint32_t multiply_halves(uint32_t a, uint32_t b) {
    return pack_halves(half_to_float(a & 0xffff) * half_to_float(b & 0xffff), half_to_float(a >> 16) * half_to_float(b >> 16));
}

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline double fma(double a, double b, double c) { return std::fma(a, b, c); }
inline double round(double x) { return std::nearbyint(x); }
inline float multiply(float a, float b) { return a * b; }
inline int round_to_int(float x) { return int(std::nearbyint(x)); }
inline float maximum(float a, float b) { return std::fmax(a, b); }
// As ex2.approx.ftz: subnormal results are zero.
inline float exp2(float x) {
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;
}
inline float reciprocal(float x) { return 1.0f / x; }
inline float square_root(float x) { return std::sqrt(x); }
inline double square_root(double x) { return std::sqrt(x); }
inline float log(float x) { return std::log(x); }
inline float infinity() { return std::numeric_limits<float>::infinity(); }

// ---- launches ----

using Stream = Machine*;

struct Grid {
    int blocks_x, blocks_y, threads;
    int shared_bytes = 0;  // dynamic ones, a block
};

template <class Kernel, class... Args>
void launch(Kernel kernel, const Grid& grid, Stream stream, const Args&... args) {
    // By value: a stream may run it later.
    stream->launch(grid.blocks_x, grid.blocks_y, grid.threads, [=] { kernel(args...); }, grid.shared_bytes);
}

template <class Kernel, class... Args>
void launch(Kernel kernel, int blocks_x, int blocks_y, int threads, Stream stream, const Args&... args) {
    launch(kernel, Grid{blocks_x, blocks_y, threads}, stream, args...);
}

template <class Kernel>
int architecture_of(Kernel, Stream stream) {
    return stream->architecture();
}

}  // namespace kvc::simt

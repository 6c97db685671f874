#include "kernels/simt/host.h"

#include <vector>

namespace kvc::simt {
namespace {

// Half to float, looked up: products of the tensor cores are most of the emulator's time.
const float* half_table() {
    static const std::vector<float> table = [] {
        std::vector<float> t(65536);
        for (size_t i = 0; i < t.size(); i++) {
            t[i] = f32_from_f16(uint16_t(i));
        }
        return t;
    }();
    return table.data();
}

float number_of_half(uint32_t bits) {
    static const float* const half = half_table();
    return half[bits];
}
float number_of_bfloat(uint32_t bits) { return float_of_bits(bits << 16); }

// Fragments of m16n8k16: lane = 4 * row + quad holds two neighbouring numbers of 16 bits a word.
template <float (*number_of)(uint32_t bits)>
void multiply_tiles(WarpWords& words) {
    float a[16][16], b[16][8];
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        const size_t g = lane / 4, q = lane % 4;
        const auto& w = words[lane].w;
        for (size_t e = 0; e < 2; e++) {
            const auto number = [&](size_t i) { return number_of(w[i] >> (16 * e) & 0xffff); };
            for (size_t r = 0; r < 4; r++) {
                a[g + 8 * (r % 2)][2 * q + e + 8 * (r / 2)] = number(r);
            }
            b[2 * q + e][g] = number(4);
            b[2 * q + e + 8][g] = number(5);
        }
    }
    float c[16][8];
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        for (size_t i = 0; i < 4; i++) {
            c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = float_of_bits(words[lane].w[6 + i]);
        }
    }
    for (size_t m = 0; m < 16; m++) {
        for (size_t k = 0; k < 16; k++) {
            for (size_t n = 0; n < 8; n++) {
                c[m][n] += a[m][k] * b[k][n];
            }
        }
    }
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        for (size_t i = 0; i < 4; i++) {
            words[lane].w[6 + i] = bits_of_float(c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
        }
    }
}

void transpose_tile(WarpWords& words) {
    uint32_t m[8][8];
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        m[lane / 4][2 * (lane % 4)] = words[lane].w[0] & 0xffff;
        m[lane / 4][2 * (lane % 4) + 1] = words[lane].w[0] >> 16;
    }
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        words[lane].w[0] = m[2 * (lane % 4)][lane / 4] | m[2 * (lane % 4) + 1][lane / 4] << 16;
    }
}

// Word 1 names the lane whose word 0 is asked for.
void exchange(WarpWords& words) {
    const WarpWords in = words;
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        words[lane].w[0] = in[in[lane].w[1] % warp_lanes].w[0];
    }
}

void exchange_addresses(WarpWords& words) {
    const WarpWords in = words;
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        const LaneWords& from = in[in[lane].w[2] % warp_lanes];
        words[lane].w[0] = from.w[0];
        words[lane].w[1] = from.w[1];
    }
}

void combine_ballot(WarpWords& words) {
    uint32_t bits = 0;
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        bits |= words[lane].w[0] << lane;
    }
    for (LaneWords& lane : words) {
        lane.w[0] = bits;
    }
}

void combine_any(WarpWords& words) {
    uint32_t any = 0;
    for (const LaneWords& lane : words) {
        any |= lane.w[0];
    }
    for (LaneWords& lane : words) {
        lane.w[0] = any;
    }
}

void nothing(WarpWords&) {}

}  // namespace

void sync_block(const Site& site) { Machine::current().sync_block(site); }
void sync_warp(const Site& site) { Machine::current().collective({}, nothing, site); }

bool any(bool p, const Site& site) { return Machine::current().collective({{p ? 1u : 0u}}, combine_any, site).w[0] != 0; }

float shuffle(float x, int from, const Site& site) {
    return float_of_bits(Machine::current().collective({{bits_of_float(x), uint32_t(from)}}, exchange, site).w[0]);
}

float shuffle_xor(float x, int mask, const Site& site) { return shuffle(x, lane() ^ mask, site); }

uintptr_t shuffle_address(uintptr_t p, int from, const Site& site) {
    static_assert(sizeof(uintptr_t) == 8);
    const LaneWords words = Machine::current().collective({{uint32_t(p), uint32_t(p >> 32), uint32_t(from)}}, exchange_addresses, site);
    return uintptr_t{words.w[1]} << 32 | words.w[0];
}

uint32_t ballot(bool p, const Site& site) { return Machine::current().collective({{p ? 1u : 0u}}, combine_ballot, site).w[0]; }

namespace {

void multiply(float (&c)[4], const std::array<uint32_t, 6>& ab, Machine::Operation operation, const Site& site) {
    LaneWords in{};
    for (size_t i = 0; i < 10; i++) {
        in.w[i] = i < 6 ? ab[i] : bits_of_float(c[i - 6]);
    }
    const LaneWords out = Machine::current().collective(in, operation, site);
    for (size_t i = 0; i < 4; i++) {
        c[i] = float_of_bits(out.w[6 + i]);
    }
}

}  // namespace

void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, const Site& site) {
    multiply(c, {a0, a1, a2, a3, b0, b1}, multiply_tiles<number_of_half>, site);
}

void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, const Site& site) {
    multiply(c, {a0, a1, a2, a3, b0, b1}, multiply_tiles<number_of_bfloat>, site);
}

uint32_t transpose_8x8(uint32_t x, const Site& site) { return Machine::current().collective({{x}}, transpose_tile, site).w[0]; }

void init(CopyBarrier* barrier) { barrier->phases = 0; }

void expect(CopyBarrier* barrier, int bytes, const Site& site) { Machine::current().expect_copies(barrier, bytes, site); }

void bulk_copy(std::byte* shared, const std::byte* global, int bytes, CopyBarrier* barrier, const Site& site) {
    if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global) | uintptr_t(bytes)) % 16 != 0) {
        Machine::current().fault("a bulk copy of ", bytes, " bytes is not in units of 16", site);
    }
    Machine::current().start_copy(shared, global, bytes, barrier, site);
}

void wait(CopyBarrier* barrier, uint32_t parity, const Site& site) {
    while ((barrier->phases & 1) == parity) {
        if (Machine::current().finish_copies(barrier, site)) {
            barrier->phases++;
        }
    }
}

}  // namespace kvc::simt

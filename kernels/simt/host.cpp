#include "kernels/simt/host.h"

#include <algorithm>
#include <array>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace kvc::simt {
namespace {

// Eight neighbours. Products of the tensor cores are most of what the emulator computes.
typedef float Row __attribute__((vector_size(32)));
using HalfRow = std::array<uint16_t, 8>;

#ifdef __F16C__
Row numbers_of_halves(const HalfRow& halves) {
    return Row(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves.data()))));
}
#else
Row numbers_of_halves(const HalfRow& halves) {
    Row row;
    for (size_t i = 0; i < halves.size(); i++) {
        row[i] = f32_from_f16(halves[i]);
    }
    return row;
}
#endif
Row numbers_of_bfloats(const HalfRow& bfloats) {
    Row row;
    for (size_t i = 0; i < bfloats.size(); i++) {
        row[i] = float_of_bits(uint32_t{bfloats[i]} << 16);
    }
    return row;
}

// Fragments of m16n8k16: a word of lane 4 * g + q holds two neighbouring numbers of 16 bits, so that four lanes hold eight neighbours of row g
// of a, of column g of b, or of row g of c. Words 0 to 3 are of a: rows 8 and up in the odd ones, columns 8 and up in the last two; words 4
// and 5 of b. Sums are of f32, one term after the other.
template <Row (*numbers_of)(const HalfRow&)>
void multiply_tiles(WarpWords& words) {
    const auto row_of = [&](size_t word, size_t g) {
        HalfRow halves;
        std::memcpy(&halves, &words.w[word][4 * g], sizeof halves);
        return numbers_of(halves);
    };
    Row b[16];
    for (size_t n = 0; n < 8; n++) {
        const Row column[2] = {row_of(4, n), row_of(5, n)};
        for (size_t k = 0; k < 16; k++) {
            b[k][n] = column[k / 8][k % 8];
        }
    }
    for (size_t g = 0; g < 8; g++) {
        Row sums[2], a[4];
        for (size_t i = 0; i < 4; i++) {
            a[i] = row_of(i, g);
        }
        for (size_t half = 0; half < 2; half++) {
            std::memcpy(&sums[half], &words.pair[half][4 * g], sizeof(Row));
        }
        for (size_t k = 0; k < 16; k++) {
            for (size_t half = 0; half < 2; half++) {
                sums[half] += a[half + k / 8 * 2][k % 8] * b[k];
            }
        }
        for (size_t half = 0; half < 2; half++) {
            std::memcpy(&words.pair[half][4 * g], &sums[half], sizeof(Row));
        }
    }
}

void transpose_tile(WarpWords& words) {
    uint16_t m[8][8];
    std::memcpy(m, words.w[0], sizeof m);
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        words.w[0][lane] = uint32_t{m[2 * (lane % 4)][lane / 4]} | uint32_t{m[2 * (lane % 4) + 1][lane / 4]} << 16;
    }
}

// Word 1 names the lane whose word 0 is asked for.
void exchange(WarpWords& words) {
    uint32_t in[warp_lanes];
    std::memcpy(in, words.w[0], sizeof in);
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        words.w[0][lane] = in[words.w[1][lane] % warp_lanes];
    }
}

// Word 2 names the lane whose words 0 and 1 are.
void exchange_addresses(WarpWords& words) {
    uint32_t in[2][warp_lanes];
    std::memcpy(in, words.w, sizeof in);
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        const uint32_t from = words.w[2][lane] % warp_lanes;
        words.w[0][lane] = in[0][from];
        words.w[1][lane] = in[1][from];
    }
}

void combine_ballot(WarpWords& words) {
    uint32_t bits = 0;
    for (size_t lane = 0; lane < warp_lanes; lane++) {
        bits |= words.w[0][lane] << lane;
    }
    std::fill_n(words.w[0], warp_lanes, bits);
}

void nothing(WarpWords&) {}

// Brings words to an operation, and takes what it left in their places.
template <size_t n>
void operate(uint32_t (&own)[n], Machine::Operation operation, const Site& site) {
    Machine& machine = Machine::current();
    WarpWords& words = machine.words();
    const int at = machine.thread() % warp_lanes;
    for (size_t i = 0; i < n; i++) {
        words.w[i][at] = own[i];
    }
    machine.collective(operation, site);
    for (size_t i = 0; i < n; i++) {
        own[i] = words.w[i][at];
    }
}

uint32_t operate(uint32_t word, Machine::Operation operation, const Site& site) {
    uint32_t own[] = {word};
    operate(own, operation, site);
    return own[0];
}

}  // namespace

void sync_block(const Site& site) { Machine::current().sync_block(site); }
void sync_warp(const Site& site) { Machine::current().collective(nothing, site); }

uint32_t ballot(bool p, const Site& site) { return operate(p ? 1u : 0u, combine_ballot, site); }
bool any(bool p, const Site& site) { return ballot(p, site) != 0; }

float shuffle(float x, int from, const Site& site) {
    uint32_t words[] = {bits_of_float(x), uint32_t(from)};
    operate(words, exchange, site);
    return float_of_bits(words[0]);
}

float shuffle_xor(float x, int mask, const Site& site) { return shuffle(x, lane() ^ mask, site); }

uintptr_t shuffle_address(uintptr_t p, int from, const Site& site) {
    static_assert(sizeof(uintptr_t) == 8);
    uint32_t words[] = {uint32_t(p), uint32_t(p >> 32), uint32_t(from)};
    operate(words, exchange_addresses, site);
    return uintptr_t{words[1]} << 32 | words[0];
}

uint32_t transpose_8x8(uint32_t x, const Site& site) { return operate(x, transpose_tile, site); }

namespace {

void multiply(float (&c)[4], uint32_t (&ab)[6], Machine::Operation operation, const Site& site) {
    Machine& machine = Machine::current();
    auto& pair = machine.words().pair;
    const int at = machine.thread() % warp_lanes;
    std::memcpy(pair[0][at], c, sizeof pair[0][at]);
    std::memcpy(pair[1][at], c + 2, sizeof pair[1][at]);
    operate(ab, operation, site);
    std::memcpy(c, pair[0][at], sizeof pair[0][at]);
    std::memcpy(c + 2, pair[1][at], sizeof pair[1][at]);
}

}  // namespace

void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, const Site& site) {
    uint32_t ab[] = {a0, a1, a2, a3, b0, b1};
    multiply(c, ab, multiply_tiles<numbers_of_halves>, site);
}

void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1, const Site& site) {
    uint32_t ab[] = {a0, a1, a2, a3, b0, b1};
    multiply(c, ab, multiply_tiles<numbers_of_bfloats>, site);
}

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

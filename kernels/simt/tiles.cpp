#include "kernels/simt/tiles.h"

#include <bit>
#include <vector>

#include "core/base/half.h"

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
float number_of_bfloat(uint32_t bits) { return std::bit_cast<float>(bits << 16); }

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
            c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = std::bit_cast<float>(words[lane].w[6 + i]);
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
            words[lane].w[6 + i] = std::bit_cast<uint32_t>(c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
        }
    }
}

}  // namespace

void multiply_half_tiles(WarpWords& words) { multiply_tiles<number_of_half>(words); }
void multiply_bfloat_tiles(WarpWords& words) { multiply_tiles<number_of_bfloat>(words); }

}  // namespace kvc::simt

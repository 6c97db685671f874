// Keys before RoPE: keys and queries turned by their positions, and queries turned by one angle.
//
// An angle is position * frequency, rounded to double as on the host; its sine and cosine are good to a few units of 2^-50 for angles
// up to 2^53, because the reduction carries pi / 2 in two parts. Everything behind that is f32.
#pragma once
#include "kernels/cuda/page_tile.cuh"
#include "kernels/cuda/softmax.cuh"

namespace kvc::cuda {

struct Angle {
    double cosine, sine;
};

KVC_DEVICE Angle angle_of(double radians) {
    constexpr double two_over_pi = 0.63661977236758134, high = 1.5707963267948966, low = 6.1232339957367660e-17;
    const double turns = simt::round(radians * two_over_pi);
    // The difference of numbers this near to each other is exact but for the last bit; turns may be off by one where angles are large.
    const double r = simt::fma(-turns, low, simt::fma(-turns, high, radians)), s = r * r;
    // Taylor series up to r^17; what is left is below 1e-11 for |r| < 2.
    constexpr double sines[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                                1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
    constexpr double cosines[] = {1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
                                  1.0 / 40320,          -1.0 / 720,         1.0 / 24,        -1.0 / 2};
    double sine = sines[0], cosine = cosines[0];
    KVC_UNROLL
    for (int i = 1; i < 8; i++) {
        sine = simt::fma(sine, s, sines[i]);
        cosine = simt::fma(cosine, s, cosines[i]);
    }
    sine = simt::fma(sine * s, r, r);
    cosine = simt::fma(cosine, s, 1.0);
    const int quadrant = int(int64_t(turns) & 3);
    const Angle odd{quadrant == 1 ? -sine : sine, quadrant == 1 ? cosine : -cosine};
    const Angle even{quadrant == 0 ? cosine : -cosine, quadrant == 0 ? sine : -sine};
    return quadrant % 2 == 1 ? odd : even;
}

KVC_DEVICE Angle plus(const Angle& a, const Angle& b) {
    return {simt::fma(a.cosine, b.cosine, -(a.sine * b.sine)), simt::fma(a.sine, b.cosine, a.cosine * b.sine)};
}

// ---- queries ----

// Channel c and the one that it turns with.
struct TurnPair {
    int frequency;  // its number; -1: the channel stays
    int other;
    bool second;
};

KVC_DEVICE TurnPair pair_of(const Rope& rope, int c) {
    if (c >= rope.dims) {
        return {-1, c, false};
    }
    if (rope.interleaved) {
        return {c / 2, c ^ 1, c % 2 == 1};
    }
    const int half = rope.dims / 2;
    return c < half ? TurnPair{c, c + half, false} : TurnPair{c - half, c - half, true};
}

KVC_DEVICE float load_any(Dtype dtype, const void* p, int64_t i) {
    return dtype == Dtype::f32   ? load_number<Dtype::f32>(p, i)
           : dtype == Dtype::f16 ? load_number<Dtype::f16>(p, i)
                                 : load_number<Dtype::bf16>(p, i);
}

// Number c of a row that is turned to a position.
KVC_DEVICE float turned_number(const Rope& rope, Dtype dtype, const void* row, int c, int64_t position) {
    const TurnPair pair = pair_of(rope, c);
    const float own = load_any(dtype, row, c);
    if (pair.frequency < 0) {
        return own;
    }
    const Angle angle = angle_of(double(position) * rope.frequencies[pair.frequency]);
    const float other = load_any(dtype, row, pair.other), sine = float(angle.sine);
    return simt::fma(own, float(angle.cosine), pair.second ? other * sine : -(other * sine));
}

// As load_row_of_lane (query_tile.cuh), turned.
template <int KD>
KVC_DEVICE float load_turned_row(const AttendArgs& args, const Rope& rope, const AttendItem& item, int first_row,
                                 float (&x)[KD / 16][4]) {
    const int row = first_row + simt::lane() / 4;
    const int64_t token = row / args.group, head = row % args.group;
    const int64_t start = token * args.q_token_stride + head * args.q_head_stride;
    const void* const q = static_cast<const std::byte*>(item.q) + start * (args.q_dtype == Dtype::f32 ? 4 : 2);
    const bool there = token < item.tokens;
    float largest = 0.0f;
    KVC_UNROLL
    for (int k = 0; k < KD / 16; k++) {
        KVC_UNROLL
        for (int e = 0; e < 4; e++) {
            const int c = key_channel(KD, k, simt::lane() % 4, e);
            x[k][e] = there ? turned_number(rope, args.q_dtype, q, c, item.first_position + token - item.rope_gap) : 0.0f;
            largest = simt::maximum(largest, x[k][e] < 0 ? -x[k][e] : x[k][e]);
        }
    }
    largest = simt::maximum(largest, simt::shuffle_xor(largest, 1));
    return simt::maximum(largest, simt::shuffle_xor(largest, 2));
}

// ---- keys ----

// Where channel c of a token lies in a tile of keys, bytes.
KVC_DEVICE int key_place(int dim, int c, int token) {
    const bool paired = c < dim / 32 * 32;
    const int k = paired ? c / 32 * 2 + c / 4 % 2 : c / 16, quad = paired ? c / 8 % 4 : c / 4 % 4;
    return tile_offset(k, token / 16, 4 * (token % 8) + quad) + (token / 8 % 2 * 2 + c / 2 % 2) * 4 + c % 2 * 2;
}

// Turns a tile of keys where it lies, by all threads of the block: eight tokens of a pair of channels at a time, because neighbours
// mostly follow each other, and one step further is one more multiplication of angles. gap: less than the positions.
template <int KD>
KVC_DEVICE void turn_key_tile(const Rope& rope, const RunTokens& tokens, int64_t gap, std::byte* tile) {
    const int half = rope.dims / 2;
    const auto position_of = [&](int t) { return (tokens.positions ? tokens.positions[t] : tokens.first + t) - gap; };
    KVC_NO_UNROLL
    for (int i = simt::thread_anew(); i < half * (page_tokens / 8); i += threads) {
        const int pair = i % half, start = i / half * 8;
        const double frequency = rope.frequencies[pair];
        const int a = rope.interleaved ? 2 * pair : pair, b = rope.interleaved ? 2 * pair + 1 : pair + half;
        const Angle one = angle_of(frequency);
        Angle angle = angle_of(double(position_of(start)) * frequency);
        KVC_NO_UNROLL
        for (int t = start; t < start + 8; t++) {
            if (t > start) {
                const bool follows = position_of(t) == position_of(t - 1) + 1;
                angle = follows ? plus(angle, one) : angle_of(double(position_of(t)) * frequency);
            }
            auto* const at_a = reinterpret_cast<uint16_t*>(tile + key_place(KD, a, t));
            auto* const at_b = reinterpret_cast<uint16_t*>(tile + key_place(KD, b, t));
            const float x = simt::half_to_float(*at_a), y = simt::half_to_float(*at_b);
            const float cosine = float(angle.cosine), sine = float(angle.sine);
            *at_a = simt::float_to_half(simt::fma(x, cosine, -(y * sine)));
            *at_b = simt::float_to_half(simt::fma(x, sine, y * cosine));
        }
    }
}

}  // namespace kvc::cuda

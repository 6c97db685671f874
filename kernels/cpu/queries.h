// Query rows of an item, prepared once: f32, rotated where keys are, scaled, and rounded for keys with one scale per token.
#pragma once
#include "kernels/cpu/scores.h"
#include "kernels/cpu/store.h"

namespace kvc::simd {
namespace {

// The scratch of one thread for one item of `rows` rows.
struct Scratch {
    float* q;           // [rows][k_dim]
    int16_t* weights;   // [rows][k_dim]
    Weights* rounding;  // [rows][groups]
    float* sums;        // [rows][groups]
    bool* broken;       // [rows]: holds a number that is none, or infinite
    float* k_tile;      // [4][k_dim][16]
    float* v_tile;      // [v_dim / 16][64][16]
};

inline int64_t query_groups(const Codec& k, int64_t k_dim) { return k.axis == Axis::token && k.group ? k_dim / k.group : 1; }

// Places the parts of the scratch from `memory` on (nullptr: only measures); returns the end.
inline int64_t place_scratch(const LayerFormat& format, int64_t rows, std::byte* memory, Scratch* scratch) {
    int64_t at = 0;
    const auto put = [&]<class T>(T** place, int64_t n) {
        *place = reinterpret_cast<T*>(memory + at);
        at += round_up(n * int64_t{sizeof(T)}, 64);
    };
    const int64_t groups = query_groups(format.codec.k, format.k_dim);
    put(&scratch->k_tile, int64_t{page_tokens} * format.k_dim);
    put(&scratch->v_tile, int64_t{page_tokens} * format.v_dim);
    put(&scratch->q, rows * format.k_dim);
    put(&scratch->weights, rows * format.k_dim);
    put(&scratch->rounding, rows * groups);
    put(&scratch->sums, rows * groups);
    put(&scratch->broken, rows);
    return at;
}

inline QueryRows query_rows(const LayerFormat& format, const Scratch& s) {
    return {format.k_dim, query_groups(format.codec.k, format.k_dim), s.q, s.weights, s.rounding, s.sums};
}

// Rounds one row for keys with scales per token.
inline void round_query(const float* q, int64_t channels, int64_t groups, int16_t* weights, Weights* rounding, float* sums) {
    for (int64_t g = 0; g < groups; ++g) {
        Floats largest = broadcast(0.0f), sum = broadcast(0.0f);
        for (int64_t c = g * channels; c < (g + 1) * channels; c += 16) {
            largest = max(largest, abs(load(q + c)));
            sum = add(sum, load(q + c));
        }
        rounding[g] = quantize_weights(q + g * channels, largest, channels, weights + g * channels);
        sums[g] = sum_of_lanes(sum);
    }
}

inline void prepare_queries(const AttendParams& params, const AttendItem& item, const Scratch& s) {
    const Codec& codec = params.format->codec.k;
    const int dim = params.format->k_dim;
    const int64_t groups = query_groups(codec, dim);
    for (int64_t t = 0; t < item.tokens; ++t) {
        for (int64_t g = 0; g < params.group; ++g) {
            const int64_t row = t * params.group + g;
            float* q = s.q + row * dim;
            const void* from = row_at(item.q, params.q_dtype, t * params.q_token_stride + g * params.q_head_stride);
            s.broken[row] = load_row_lanes(from, params.q_dtype, dim, q) >= infinity_bits;
            if (s.broken[row]) {
                memset(q, 0, size_t(dim) * sizeof *q);
            }
            if (codec.rotate) {
                rotate_vector(q, dim);
            }
            for (int64_t c = 0; c < dim; c += 16) {
                store(q + c, mul(load(q + c), broadcast(params.scale)));
            }
            if (codec.axis == Axis::token && !is_16_bit(codec.type)) {
                round_query(q, dim / groups, groups, s.weights + row * dim, s.rounding + row * groups, s.sums + row * groups);
            }
        }
    }
}

}  // namespace
}  // namespace kvc::simd

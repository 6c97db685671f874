// Keys before RoPE: f32 rows of a page, and the queries, turned by their positions.
#pragma once
#include <cmath>

#include "kernels/cpu/runs.h"

namespace kvc {
namespace {

struct Angle {
    double cosine, sine;
};

inline Angle angle_of(double radians) { return {std::cos(radians), std::sin(radians)}; }
inline Angle plus(Angle a, Angle b) { return {a.cosine * b.cosine - a.sine * b.sine, a.sine * b.cosine + a.cosine * b.sine}; }

inline void turn_pair(float* a, float* b, Angle angle) {
    const float cosine = float(angle.cosine), sine = float(angle.sine);
    const float x = *a * cosine - *b * sine;
    *b = *a * sine + *b * cosine;
    *a = x;
}

// Rows [n][dim] by position_of(t). Neighbours mostly follow each other: one step further is one more multiplication of angles, in
// double, at most 63 times in a row.
template <class PositionOf>
void turn_rows(const Rope& rope, int64_t n, int64_t dim, const PositionOf& position_of, float* rows) {
    const int64_t half = rope.dims / 2;
    for (int64_t i = 0; i < half; ++i) {
        const double frequency = rope.frequencies[i];
        const Angle one = angle_of(frequency);
        const int64_t a = rope.interleaved ? 2 * i : i, b = rope.interleaved ? 2 * i + 1 : i + half;
        Angle angle = angle_of(double(position_of(0)) * frequency);
        for (int64_t t = 0; t < n; ++t) {
            turn_pair(rows + t * dim + a, rows + t * dim + b, angle);
            if (t + 1 < n) {
                const bool follows = position_of(t + 1) == position_of(t) + 1;
                angle = follows ? plus(angle, one) : angle_of(double(position_of(t + 1)) * frequency);
            }
        }
    }
}

// The keys of a run; everything but the sinks has moved up by the gap.
inline void turn_keys(const AttendParams& params, const AttendItem& item, const Run& run, float* k) {
    const int64_t gap = run.entry ? item.rope_gap : 0;
    const PageSide* side = nullptr;
    if (run.entry && run.entry->side) {
        side = reinterpret_cast<const PageSide*>(params.arena.at(run.entry->side, side_bytes));
    }
    const auto position_of = [&](int64_t t) { return (side ? side->positions[t] : run.first + t) - gap; };
    const int64_t n = run.entry ? page_tokens : item.sink_tokens;
    turn_rows(*params.rope, n, params.format->k_dim, position_of, k);
}

// One query row, at position i.
inline void turn_query(const AttendParams& params, const AttendItem& item, int64_t i, float* q) {
    const int64_t position = i - item.rope_gap;
    turn_rows(*params.rope, 1, params.format->k_dim, [&](int64_t) { return position; }, q);
}

}  // namespace
}  // namespace kvc

// Attention in double precision over what the table reads back, with an error bound for every number, derived from how kernels
// compute: it knows roundings and quantization steps, and nothing of records.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "tests/kernels/head.h"

namespace kvc_test {

// How a kernel class rounds what it multiplies codes with, relative to the largest of its tile: q folded with the scales of keys,
// and p folded with those of values. 0: it does not, and computes in f32.
struct Precision {
    double q_step = 0, p_step = 0;
    double product = 0;  // relative roundings of each q and p on the way into a product of 16-bit numbers
};
Precision precision_of(const KernelTable& table, bool prompt_class);
// The relative Frobenius error that a kernel class may have overall.
double tolerance(const KernelTable& table);

struct Query {
    const float* q = nullptr;  // [k_dim], in the basis in which keys were appended
    int64_t position = 0;
    double scale = 1, soft_cap = 0;
    int64_t sliding_window = INT64_MAX, causal_offset = 0;
    const float* sink_logit = nullptr;
};

struct Exact {
    std::vector<double> out, out_bound;                       // [v_dim], in the basis in which values were appended
    double lse = 0, lse_bound = 0;                            // the sink logit included
    std::vector<std::array<double, page_tokens>> p, p_bound;  // per tile; p is 0 where nothing is seen
};
Exact exact_attention(const LayerFormat& format, const std::vector<Tile>& tiles, const Query& query, const Precision& precision);

// The rotation by its definition.
void rotate_exact(double* x, int dim);

}  // namespace kvc_test

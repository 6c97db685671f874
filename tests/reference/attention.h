// Attention of one query over the tokens it sees, in double, with a bound on what single-precision kernels may differ by.
#pragma once

#include <cstdint>
#include <vector>

namespace kvc_reference {

// One token's keys or values in the form that the query sees: value = zero + scale * code, or the 16-bit number itself.
struct Form {
    const float* value = nullptr;  // [dim], in the stored basis
    const float* scale = nullptr;  // [dim]; null: a 16-bit row
    const float* zero = nullptr;   // [dim]
    double last = 0;               // the largest code
};

struct SeenToken {
    Form k, v;
    int64_t page = 0;  // tokens with equal numbers lie in one page
    // RoPE inside the cache: the query meets this key as if it were turned by so many positions. positions: how far the two angles that
    // make up the distance are from 0, together.
    bool turned = false;
    double distance = 0, positions = 0;
};

struct Query {
    const float* q = nullptr;  // [k_dim], in the caller's basis
    int64_t k_dim = 0, v_dim = 0;
    double scale = 1, soft_cap = 0;
    bool rotate_k = false, rotate_v = false;
    bool has_sink = false;
    double sink_logit = 0;
    const std::vector<double>* frequencies = nullptr;  // of turned tokens
    bool interleaved = false;
    bool turns_keys = false;  // keys are turned too, not the query alone
    // The arithmetic that is allowed to differ from exact: with planes, q and p are cut to two int8 planes (15 bits).
    bool planes = false;
    // Of each q and each p, relative: how far they may be rounded on their way into a product.
    double product = 0;
};

struct Attention {
    std::vector<double> out, out_bound;  // [v_dim], in the caller's basis
    double lse = 0, lse_bound = 0;
    std::vector<double> p, p_bound;  // per seen token
};

Attention attend(const Query& query, const std::vector<SeenToken>& seen);

// The Hadamard rotation in double: blocks of the largest power of two dividing the size, divided by the root of the block.
void rotate_exact(std::vector<double>& x);
int64_t rotation_block(int64_t dim);

}  // namespace kvc_reference

// Online softmax of query rows over one page.
//
// A row's state is o [v_dim], then m, the running maximum of the logits, then d, the sum of exp(logit - m). Pages come in order, and
// every sum has a fixed tree, so the bits of a row depend on nothing but the row and the pages it sees.
#pragma once
#include "core/backend/kernel_table.h"
#include "kernels/cpu/exponential.h"

namespace kvc::simd {
namespace {

constexpr float minus_infinity = -__builtin_inff();

inline void clear_state(float* o, int64_t v_dim) {
    memset(o, 0, size_t(v_dim) * sizeof *o);
    o[v_dim] = minus_infinity;
    o[v_dim + 1] = 0.0f;
}

// Products [64] become logits: soft cap, the bias of counts if there is one, then -inf in the lanes whose bit in mask is not set,
// whatever they held.
KVC_INLINE void finish_logits(float* scores, uint64_t mask, float soft_cap, const float* bias) {
    if (soft_cap == 0.0f && mask == all_live && !bias) {
        return;
    }
    for (int64_t t = 0; t < page_tokens; t += 16) {
        Floats x = load(scores + t);
        if (soft_cap != 0.0f) {
            x = soft_capped(x, soft_cap);
        }
        if (bias) {
            x = add(x, load(bias + t));
        }
        store(scores + t, choose(uint32_t(mask >> t) & 0xffffu, x, broadcast(minus_infinity)));
    }
}

// Moves the state at o to the maximum over the logits too, and turns the logits into exp(logit - maximum). At least one is finite.
// Returns what they weigh together.
KVC_INLINE PageSum absorb_logits(float* scores, float* o, int64_t v_dim) {
    static_assert(page_tokens == 64);
    const Floats x0 = load(scores), x1 = load(scores + 16), x2 = load(scores + 32), x3 = load(scores + 48);
    const float largest = max_of_lanes(max(max(x0, x1), max(x2, x3)));
    float m = o[v_dim], d = o[v_dim + 1];
    if (largest > m) {
        const float shrink = exponential(m - largest);
        const Floats factor = broadcast(shrink);
        for (int64_t c = 0; c < v_dim; c += 16) {
            store(o + c, mul(load(o + c), factor));
        }
        d *= shrink;
        m = largest;
    }
    const Floats center = broadcast(m);
    const Floats p0 = exponential(sub(x0, center)), p1 = exponential(sub(x1, center));
    const Floats p2 = exponential(sub(x2, center)), p3 = exponential(sub(x3, center));
    store(scores, p0);
    store(scores + 16, p1);
    store(scores + 32, p2);
    store(scores + 48, p3);
    o[v_dim] = m;
    const float sum = sum_of_lanes(add(add(p0, p1), add(p2, p3)));
    o[v_dim + 1] = d + sum;
    return {m, sum};
}

}  // namespace
}  // namespace kvc::simd

// The witness of attention: pages dequantized to f32 tiles, dot products and sums in a fixed order, one online softmax per page.
// Every row is computed alone, so its bits depend neither on the other rows of the tile nor on how the tokens were cut into items.
#pragma once
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/cpu/finish_body.h"
#include "kernels/cpu/page_body.h"
#include "kernels/cpu/runs.h"
#include "kernels/cpu/turn.h"

namespace kvc {
namespace {

struct Scratch {
    float* k;  // [64][k_dim]
    float* v;  // [64][v_dim]
    float* q;  // [tokens * group][k_dim], in the stored basis
};

inline int64_t scratch_floats(const LayerFormat& format, int64_t rows) {
    return page_tokens * (format.k_dim + format.v_dim) + rows * format.k_dim;
}

int64_t attend_scratch_bytes(const LayerFormat& format, int64_t group, int64_t tokens) {
    return scratch_floats(format, group * tokens) * int64_t{sizeof(float)};
}

inline Scratch scratch_of(const LayerFormat& format, std::byte* memory) {
    auto* k = reinterpret_cast<float*>(memory);
    float* v = k + page_tokens * format.k_dim;
    return {k, v, v + page_tokens * format.v_dim};
}

inline void load_queries(const AttendParams& params, const AttendItem& item, float* rows) {
    const int dim = params.format->k_dim;
    for (int64_t t = 0; t < item.tokens; ++t) {
        for (int64_t g = 0; g < params.group; ++g) {
            float* row = rows + (t * params.group + g) * dim;
            load_row(row_at(item.q, params.q_dtype, t * params.q_token_stride + g * params.q_head_stride), params.q_dtype, dim, row);
            if (params.rope) {
                turn_query(params, item, item.first_position + t, row);
            }
            if (params.format->codec.k.rotate) {
                rotate_row(row, dim);
            }
        }
    }
}

inline float dot(const float* __restrict a, const float* __restrict b, int dim) {
    float lane[lanes] = {};
    for (int i = 0; i < dim; i += lanes) {
        for (int j = 0; j < lanes; ++j) {
            lane[j] += a[i + j] * b[i + j];
        }
    }
    return fold(lane);
}

inline float logit_of(const AttendParams& params, const float* q, const float* k) {
    const float logit = params.scale * dot(q, k, params.format->k_dim);
    return params.soft_cap > 0.0f ? params.soft_cap * std::tanh(logit / params.soft_cap) : logit;
}

// Logits of the tokens in `seen`, with the bias of their counts if there is one; returns the largest, or NaN if one is.
inline float logits_of(const AttendParams& params, const float* q, const float* k, uint64_t seen, const float* bias, float* logits) {
    float largest = minus_infinity;
    for (uint64_t rest = seen; rest; rest &= rest - 1) {
        const int t = std::countr_zero(rest);
        const float product = logit_of(params, q, k + t * params.format->k_dim);
        const float logit = bias ? product + bias[t] : product;
        logits[t] = logit;
        largest = logit > largest || logit != logit ? logit : largest;
        if (logit != logit) {
            return logit;
        }
    }
    return largest;
}

// Takes the tokens in `seen` into one row's state (o, m, d); returns what they weigh together.
inline PageSum accumulate_row(const AttendParams& params, const float* q, const Scratch& s, uint64_t seen, const float* bias,
                              float* state) {
    const int dim = params.format->v_dim;
    float* __restrict o = state;
    float &m = state[dim], &d = state[dim + 1];
    float logits[page_tokens];
    const float largest = logits_of(params, q, s.k, seen, bias, logits);
    if (largest == minus_infinity) {
        return {};
    }
    if (!(largest <= m)) {
        const float shrink = std::exp(m - largest);
        for (int i = 0; i < dim; ++i) {
            o[i] *= shrink;
        }
        d *= shrink;
        m = largest;
    }
    float sum = 0.0f;
    for (uint64_t rest = seen; rest; rest &= rest - 1) {
        const int t = std::countr_zero(rest);
        const float p = std::exp(logits[t] - m);
        const float* __restrict v = s.v + t * dim;
        d += p;
        sum += p;
        for (int i = 0; i < dim; ++i) {
            o[i] += p * v[i];
        }
    }
    return {m, sum};
}

void attend_item(const AttendParams& params, const AttendItem& item, std::byte* memory) {
    const LayerFormat& f = *params.format;
    const Scratch s = scratch_of(f, memory);
    const auto state_of = [&](int64_t t, int64_t g) { return item.state + (t * item.state_token_stride + g) * (f.v_dim + 2); };
    load_queries(params, item, s.q);
    for (int64_t t = 0; t < item.tokens; ++t) {
        for (int64_t g = 0; g < params.group; ++g) {
            float* state = state_of(t, g);
            std::memset(state, 0, size_t(f.v_dim + 2) * sizeof(float));
            state[f.v_dim] = minus_infinity;
        }
    }
    for_each_run(params, item, nullptr, [&](const Run& run) {
        if (!seen_by_any(params, item, run)) {
            return;
        }
        read_page(f, run.form, run.record, s.k, s.v);
        if (params.rope) {
            turn_keys(params, item, run, s.k);
        }
        for (int64_t t = 0; t < item.tokens; ++t) {
            const uint64_t seen = seen_by(params, run, item.first_position + t);
            for (int64_t g = 0; seen && g < params.group; ++g) {
                const int64_t row = t * params.group + g;
                const PageSum sum = accumulate_row(params, s.q + row * f.k_dim, s, seen, run.bias, state_of(t, g));
                if (run.sums) {
                    run.sums[row] = sum;
                }
            }
        }
    });
}

// ---- mass ----

inline int64_t mass_of(float p) {
    p = p < 1.0f ? p : 1.0f;
    return int64_t(std::nearbyint(double(p) * 0x1p30));  // p is not negative
}

void mass_item(const AttendParams& params, const MassItem& mass, std::byte* memory) {
    const AttendItem& item = mass.item;
    const LayerFormat& f = *params.format;
    const Scratch s = scratch_of(f, memory);
    load_queries(params, item, s.q);
    for_each_run(params, item, &mass, [&](const Run& run) {
        if (!seen_by_any(params, item, run)) {
            return;
        }
        read_page(f, run.form, run.record, s.k, nullptr);
        if (params.rope) {
            turn_keys(params, item, run, s.k);
        }
        float logits[page_tokens];
        for (int64_t t = 0; t < item.tokens; ++t) {
            const uint64_t seen = seen_by(params, run, item.first_position + t);
            for (int64_t g = 0; seen && g < params.group; ++g) {
                const float lse = mass.lse[t * mass.lse_token_stride + g];
                if (!(lse > minus_infinity)) {
                    continue;
                }
                logits_of(params, s.q + (t * params.group + g) * f.k_dim, s.k, seen, run.bias, logits);
                for (uint64_t rest = seen; rest; rest &= rest - 1) {
                    const int token = std::countr_zero(rest);
                    run.mass[token] += mass_of(std::exp(logits[token] - lse));
                }
            }
        }
    });
}

// Rows of an item whose page sums are turned into mass together: as many as lie side by side in two lines of memory.
struct PageMassRows {
    static constexpr int64_t most = 16;
    int64_t first, count;
    float lse[most];
    // A row's reference seldom changes from one run to the next, and with it the factor that all its sums have in common.
    float reference[most], factor[most];
};

inline PageMassRows page_mass_rows(const MassItem& mass, int64_t group, int64_t first, int64_t count) {
    PageMassRows rows{first, count, {}, {}, {}};
    for (int64_t r = 0; r < count; ++r) {
        const int64_t row = first + r;
        rows.lse[r] = mass.lse[row / group * mass.lse_token_stride + row % group];
        rows.reference[r] = minus_infinity;
    }
    return rows;
}

// Of one run, whose sums of the rows these are.
inline int64_t mass_of_run(const PageSum* sums, PageMassRows& rows) {
    int64_t all = 0;
    for (int64_t r = 0; r < rows.count; ++r) {
        const PageSum page = sums[rows.first + r];
        if (!(page.sum > 0.0f) || !(rows.lse[r] > minus_infinity)) {
            continue;
        }
        if (page.reference != rows.reference[r]) {
            rows.reference[r] = page.reference;
            rows.factor[r] = std::exp(page.reference - rows.lse[r]);
        }
        all += mass_of(page.sum * rows.factor[r]);
    }
    return all;
}

void page_mass_item(int64_t group, const MassItem& mass) {
    const AttendItem& item = mass.item;
    const int64_t all_rows = item.tokens * group;
    for (int64_t first = 0; first < all_rows; first += PageMassRows::most) {
        PageMassRows rows = page_mass_rows(mass, group, first, std::min(PageMassRows::most, all_rows - first));
        const PageSum* sums = item.page_sums;
        *mass.sinks += mass_of_run(sums, rows);
        for (int64_t e = 0; e < item.n_coded; ++e) {
            mass.coded[e] += mass_of_run(sums += all_rows, rows);
        }
        for (int64_t e = 0; e < item.n_window; ++e) {
            mass.window[e] += mass_of_run(sums += all_rows, rows);
        }
    }
}

}  // namespace
}  // namespace kvc

// The witness of attention: pages dequantized to f32 tiles, dot products and sums in a fixed order, one online softmax per page.
// Every row is computed alone, so its bits depend neither on the other rows of the tile nor on how the tokens were cut into items.
#pragma once
#include <cstring>
#include <limits>

#include "kernels/cpu/page_body.h"
#include "kernels/cpu/store_body.h"
#include "kernels/cpu/visible.h"

namespace kvc {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

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

// One run of at most 64 tokens of an item: its tile is in scratch once begin_run has returned.
struct Run {
    const PageEntry* entry;  // nullptr: sinks
    KernelTable::Form form;
    int64_t first;     // position of its first token, if it has no side record
    uint64_t present;  // tokens that it holds
    int64_t* mass;     // of its tokens, or nullptr
};

inline uint64_t seen_by(const AttendParams& params, const Run& run, int64_t i) {
    const uint64_t seen = run.entry ? visible_tokens(params, *run.entry, run.first, i) : visible_run(params, run.first, i);
    return seen & run.present;
}

// Calls visit(run, record) for sinks, coded pages and window pages, in the order of their positions.
template <class Visit>
void for_each_run(const AttendParams& params, const AttendItem& item, const MassItem* mass, const Visit& visit) {
    const LayerFormat& f = *params.format;
    if (item.sinks) {
        visit(Run{nullptr, KernelTable::Form::sinks, item.sinks_position, bits_between(0, item.sink_tokens),
                  mass ? mass->sinks : nullptr},
              params.arena.at(item.sinks, f.sink_bytes));
    }
    const auto pages = [&](KernelTable::Form form, const PageEntry* entries, int64_t n, int64_t first, int64_t* counters,
                           int64_t bytes) {
        for (int64_t e = 0; e < n; ++e) {
            if (entries[e].record) {
                visit(Run{entries + e, form, first + e * page_tokens, all_live, counters ? counters + e * page_tokens : nullptr},
                      params.arena.at(entries[e].record, bytes));
            }
        }
    };
    pages(KernelTable::Form::codes, item.coded, item.n_coded, item.coded_position, mass ? mass->coded : nullptr, f.code_bytes);
    pages(KernelTable::Form::window, item.window, item.n_window, item.window_position, mass ? mass->window : nullptr, f.window_bytes);
}

inline bool seen_by_any(const AttendParams& params, const AttendItem& item, const Run& run) {
    for (int64_t t = 0; t < item.tokens; ++t) {
        if (seen_by(params, run, item.first_position + t)) {
            return true;
        }
    }
    return false;
}

// Logits of the tokens in `seen`; returns the largest, or NaN if one is.
inline float logits_of(const AttendParams& params, const float* q, const float* k, uint64_t seen, float* logits) {
    float largest = minus_infinity;
    for (uint64_t rest = seen; rest; rest &= rest - 1) {
        const int t = std::countr_zero(rest);
        const float logit = logit_of(params, q, k + t * params.format->k_dim);
        logits[t] = logit;
        largest = logit > largest || logit != logit ? logit : largest;
        if (logit != logit) {
            return logit;
        }
    }
    return largest;
}

// Takes the tokens in `seen` into one row's state (o, m, d).
inline void accumulate_row(const AttendParams& params, const float* q, const Scratch& s, uint64_t seen, float* state) {
    const int dim = params.format->v_dim;
    float* __restrict o = state;
    float &m = state[dim], &d = state[dim + 1];
    float logits[page_tokens];
    const float largest = logits_of(params, q, s.k, seen, logits);
    if (largest == minus_infinity) {
        return;
    }
    if (!(largest <= m)) {
        const float shrink = std::exp(m - largest);
        for (int i = 0; i < dim; ++i) {
            o[i] *= shrink;
        }
        d *= shrink;
        m = largest;
    }
    for (uint64_t rest = seen; rest; rest &= rest - 1) {
        const int t = std::countr_zero(rest);
        const float p = std::exp(logits[t] - m);
        const float* __restrict v = s.v + t * dim;
        d += p;
        for (int i = 0; i < dim; ++i) {
            o[i] += p * v[i];
        }
    }
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
    for_each_run(params, item, nullptr, [&](const Run& run, const std::byte* record) {
        if (!seen_by_any(params, item, run)) {
            return;
        }
        read_page(f, run.form, record, s.k, s.v);
        for (int64_t t = 0; t < item.tokens; ++t) {
            const uint64_t seen = seen_by(params, run, item.first_position + t);
            for (int64_t g = 0; seen && g < params.group; ++g) {
                accumulate_row(params, s.q + (t * params.group + g) * f.k_dim, s, seen, state_of(t, g));
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
    for_each_run(params, item, &mass, [&](const Run& run, const std::byte* record) {
        if (!seen_by_any(params, item, run)) {
            return;
        }
        read_page(f, run.form, record, s.k, nullptr);
        float logits[page_tokens];
        for (int64_t t = 0; t < item.tokens; ++t) {
            const uint64_t seen = seen_by(params, run, item.first_position + t);
            for (int64_t g = 0; seen && g < params.group; ++g) {
                const float lse = mass.lse[t * mass.lse_token_stride + g];
                if (!(lse > minus_infinity)) {
                    continue;
                }
                logits_of(params, s.q + (t * params.group + g) * f.k_dim, s.k, seen, logits);
                for (uint64_t rest = seen; rest; rest &= rest - 1) {
                    const int token = std::countr_zero(rest);
                    run.mass[token] += mass_of(std::exp(logits[token] - lse));
                }
            }
        }
    });
}

// ---- finish ----

inline void write_row(const float* x, int dim, Dtype dtype, void* out) {
    auto* half = static_cast<uint16_t*>(out);
    switch (dtype) {
    case Dtype::f32:
        std::memcpy(out, x, size_t(dim) * sizeof(float));
        break;
    case Dtype::f16:
        for (int i = 0; i < dim; ++i) {
            half[i] = f16_from_f32(x[i]);
        }
        break;
    case Dtype::bf16:
        for (int i = 0; i < dim; ++i) {
            half[i] = bf16_from_f32(x[i]);
        }
        break;
    }
}

// The largest logit of all splits and the sink; NaN if one is.
inline float largest_logit(const FinishParams& params) {
    float largest = params.sink_logit ? *params.sink_logit : minus_infinity;
    for (int64_t s = 0; s < params.splits; ++s) {
        const float m = params.states[s * params.split_stride + params.format->v_dim];
        largest = m > largest || m != m ? m : largest;
        if (m != m) {
            return m;
        }
    }
    return largest;
}

void finish_row(const FinishParams& params) {
    const int dim = params.format->v_dim;
    float o[dim_limit] = {};
    float d = 0.0f, lse = minus_infinity;
    const float m = largest_logit(params);
    if (m != minus_infinity) {
        for (int64_t s = 0; s < params.splits; ++s) {
            const float* state = params.states + s * params.split_stride;
            const float weight = std::exp(state[dim] - m);  // 0 for a split that saw nothing
            for (int i = 0; i < dim; ++i) {
                o[i] += weight * state[i];
            }
            d += weight * state[dim + 1];
        }
        d += params.sink_logit ? std::exp(*params.sink_logit - m) : 0.0f;
        lse = m + std::log(d);
        for (int i = 0; i < dim; ++i) {
            o[i] /= d;
        }
    }
    if (params.format->codec.v.rotate) {
        rotate_row(o, dim);
    }
    write_row(o, dim, params.out_dtype, params.out);
    if (params.out_lse) {
        *params.out_lse = lse;
    }
    if (params.out_full_lse) {
        *params.out_full_lse = lse;
    }
}

}  // namespace
}  // namespace kvc

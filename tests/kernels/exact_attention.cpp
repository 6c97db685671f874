#include "tests/kernels/exact_attention.h"

#include <cmath>

namespace kvc_test {
namespace {

constexpr double u = 0x1p-24;              // half an ulp of f32, relative
constexpr double rotation_roundings = 10;  // 8 butterflies and 2 products

// One visible token.
struct Seen {
    size_t tile, slot;
    double logit, error;  // |computed logit - logit| <= error
};

int block_of(int dim) { return dim & -dim; }

double sum_of_sizes(const double* x, int n) {
    double sum = 0;
    for (int i = 0; i < n; ++i) {
        sum += std::abs(x[i]);
    }
    return sum;
}

// A computed logit is off by: the roundings of q's rotation; those of the dot product in any order, with keys as code * step + zero
// (|zero| <= |k| + step * last), so of numbers up to |k| + 2 step last; half a step of quantized q per channel, times a code up
// to last; and a few roundings of the result, through scale and cap, whose slope is at most 1.
Seen logit_of(const LayerFormat& f, const Tile& tile, size_t t, const std::vector<double>& q, const Query& query,
              const Precision& precision) {
    const int dim = f.k_dim;
    const float* k = tile.k.data() + t * size_t(dim);
    const float* step = tile.k_step.data() + t * size_t(dim);
    double product = 0, size = 0, keys = 0, largest = 0;
    for (int d = 0; d < dim; ++d) {
        const double reach = std::abs(double(k[d])) + 2 * double(step[d]) * tile.k_last;
        product += q[size_t(d)] * double(k[d]);
        size += std::abs(q[size_t(d)]) * reach;
        keys += reach;
        largest = std::max(largest, std::abs(q[size_t(d)]) * double(step[d]));
    }
    double error = ((dim + 4) * u + precision.product) * size + precision.q_step / 2 * largest * dim * tile.k_last;
    if (f.codec.k.rotate) {
        error += rotation_roundings * u * sum_of_sizes(q.data(), dim) / std::sqrt(double(block_of(dim))) * keys;
    }
    double logit = query.scale * product;
    error = query.scale * error + 3 * u * std::abs(logit);
    if (query.soft_cap > 0) {
        logit = query.soft_cap * std::tanh(logit / query.soft_cap);
        error += 16 * u * query.soft_cap;
    }
    logit += tile.log_count[t];
    error += 2 * u * (std::abs(logit) + tile.log_count[t]);
    return {0, 0, logit, error};
}

// The errors of the weighted sum of values, in the stored basis, added to `bound`.
void bound_values(const LayerFormat& f, const std::vector<Tile>& tiles, const Exact& exact, const Precision& precision,
                  const std::vector<double>& o, double n, std::vector<double>* bound) {
    const size_t dim = size_t(f.v_dim);
    const double rounding = (n + 8) * u + precision.product;
    for (size_t i = 0; i < tiles.size(); ++i) {
        const Tile& tile = tiles[i];
        std::vector<double> largest(dim);
        double seen = 0;
        for (size_t t = 0; t < size_t(page_tokens); ++t) {
            const double p = exact.p[i][t];
            if (p == 0) {
                continue;
            }
            const float* v = tile.v.data() + t * dim;
            const float* v_step = tile.v_step.data() + t * dim;
            const double weight = exact.p_bound[i][t] + rounding * p;
            for (size_t d = 0; d < dim; ++d) {
                const double step = double(v_step[d]);
                const double reach = std::abs(double(v[d])) + 2 * step * tile.v_last;
                (*bound)[d] += weight * (reach + std::abs(o[d]));
                largest[d] = std::max(largest[d], p * step);
            }
            seen += 1;
        }
        for (size_t d = 0; d < dim; ++d) {
            (*bound)[d] += precision.p_step / 2 * largest[d] * seen * tile.v_last;
        }
    }
}

std::vector<Seen> visible(const LayerFormat& f, const std::vector<Tile>& tiles, const Query& query, const Precision& precision) {
    std::vector<double> q(query.q, query.q + f.k_dim);
    if (f.codec.k.rotate) {
        rotate_exact(q.data(), f.k_dim);
    }
    std::vector<Seen> seen;
    for (size_t i = 0; i < tiles.size(); ++i) {
        for (size_t t = 0; t < size_t(page_tokens); ++t) {
            const int64_t j = tiles[i].position[t];
            const bool in_window = query.sliding_window == INT64_MAX || j > query.position - query.sliding_window;
            if ((tiles[i].live >> t & 1) && j <= query.position + query.causal_offset && in_window) {
                seen.push_back(logit_of(f, tiles[i], t, q, query, precision));
                seen.back().tile = i;
                seen.back().slot = t;
            }
        }
    }
    return seen;
}

// Out of the stored basis, the bound with it: a rotation adds errors up at worst.
void rotate_back(int dim, Exact* exact) {
    const int block = block_of(dim);
    const std::vector<double> error = exact->out_bound, o = exact->out;
    rotate_exact(exact->out.data(), dim);
    for (int start = 0; start < dim; start += block) {
        const double sum = sum_of_sizes(error.data() + start, block) + rotation_roundings * u * sum_of_sizes(o.data() + start, block);
        for (int d = start; d < start + block; ++d) {
            exact->out_bound[size_t(d)] = sum / std::sqrt(double(block));
        }
    }
}

}  // namespace

Precision precision_of(const KernelTable& table, bool) {
    if (std::string(table.name) == "scalar") {
        return {};
    }
    if (std::string(table.name).starts_with("cuda-")) {
        return {0, 0, 0x1p-10};  // fp16: q and p once as they are, once more times a scale
    }
    return {0x1p-14, 0x1p-14};  // two planes of 8 bits: 15 bits with the sign
}

double tolerance(const KernelTable& table) { return precision_of(table, false).product > 0 ? 3e-3 : 1e-3; }

void rotate_exact(double* x, int dim) {
    const int block = block_of(dim);
    std::vector<double> y(x, x + dim);
    for (int h = block / 2; h; h /= 2) {
        for (int i = 0; i < dim; ++i) {
            if (!(i & h)) {
                const double a = y[size_t(i)], b = y[size_t(i + h)];
                y[size_t(i)] = a + b;
                y[size_t(i + h)] = a - b;
            }
        }
    }
    for (int i = 0; i < dim; ++i) {
        x[i] = y[size_t(i)] / std::sqrt(double(block));
    }
}

Exact exact_attention(const LayerFormat& f, const std::vector<Tile>& tiles, const Query& query, const Precision& precision) {
    Exact exact;
    exact.out.resize(size_t(f.v_dim));
    exact.out_bound.resize(size_t(f.v_dim));
    exact.p.resize(tiles.size());
    exact.p_bound.resize(tiles.size());
    const std::vector<Seen> seen = visible(f, tiles, query, precision);
    const bool sink = query.sink_logit && std::isfinite(*query.sink_logit);
    if (seen.empty() && !sink) {
        exact.lse = -HUGE_VAL;
        return exact;
    }
    double largest = sink ? double(*query.sink_logit) : -HUGE_VAL, size = 0;
    for (const Seen& s : seen) {
        largest = std::max(largest, s.logit);
        size = std::max(size, std::abs(s.logit) + s.error);
    }
    size = std::max(size, std::abs(largest));
    double total = sink ? std::exp(double(*query.sink_logit) - largest) : 0;
    for (const Seen& s : seen) {
        total += std::exp(s.logit - largest);
    }
    exact.lse = largest + std::log(total);

    // exp(l - m): the difference rounds, the function is good to a few ulp, and every run may rescale what came before it.
    const double exp_error = u * (2 * size + 16 + 8 * double(tiles.size() + 1));
    const double n = double(seen.size());
    double relative = sink ? std::expm1(exp_error) * std::exp(double(*query.sink_logit) - exact.lse) : 0;
    std::vector<double> o(size_t(f.v_dim), 0.0);
    for (const Seen& s : seen) {
        const double p = std::exp(s.logit - exact.lse);
        exact.p[s.tile][s.slot] = p;
        exact.p_bound[s.tile][s.slot] = p * std::expm1(s.error + exp_error);
        relative += exact.p_bound[s.tile][s.slot];
        for (int d = 0; d < f.v_dim; ++d) {
            o[size_t(d)] += p * double(tiles[s.tile].v[s.slot * size_t(f.v_dim) + size_t(d)]);
        }
    }
    exact.lse_bound = relative + (n + 16) * u * (1 + std::abs(exact.lse) + size);
    if (sink) {
        for (size_t d = 0; d < o.size(); ++d) {
            exact.out_bound[d] += std::expm1(exp_error) * std::exp(double(*query.sink_logit) - exact.lse) * std::abs(o[d]);
        }
    }
    bound_values(f, tiles, exact, precision, o, n, &exact.out_bound);
    // Second order: numerator and denominator are off together.
    for (double& bound : exact.out_bound) {
        bound = bound / (1 - std::min(relative, 0.5)) + 1e-30;
    }
    exact.out = o;
    if (f.codec.v.rotate) {
        rotate_back(f.v_dim, &exact);
    }
    return exact;
}

}  // namespace kvc_test

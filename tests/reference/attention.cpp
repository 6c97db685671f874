// Where the bound comes from. u = 2^-24 is the rounding of one single-precision operation, gamma(n) = n u / (1 - n u) that of a
// sum of n rounded products in any order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
//
// Logit j: the kernel sums at most 2 D terms, q*zero and (q*scale)*code apart and with codes shifted as it likes, so the error is
//   gamma(2D + 8) * A_j with A_j = sum_d |q_d| (|zero_d| + |scale_d| last), last the largest code. If K is rotated, q_d itself carries
//   gamma(2 + log2 B) * (sum of its block of |q|) / sqrt(B). With planes (two int8 numbers for one), q_d * scale_d is rounded to the nearest
//   of 2^14 steps up to the largest in its tile, which adds 2^-15 * max_d |q_d scale_d| * D last. tanh is 1-Lipschitz and adds 2^-20 of the cap
//   for its own approximation.
// RoPE turns a pair (a, b) in single precision: 3 u (|a| + |b|) for either number, and the angle is off by the rounding of its product in
//   double (positions * frequency * 2^-52) and of up to 63 steps from token to token (2^-45). If keys are turned too, either factor of a
//   product is, and no number of a turned pair is larger than |a| + |b|.
// Weight j: exp(L_j - m): the subtraction adds 2 u (|L_j| + |m|), the function itself 2^-21, every rescaling by a new maximum
//   or merge of spans 2^-21 again (one per page and three spans more).
// With the sum of these, e_j, weights are w_j exp(+-e_j), the denominator is off by at most D = sum_j p_j (exp(e_j) - 1) + gamma(n),
//   and so p_j by at most p_j r_j with r_j = exp(e_j) / (1 - D) - 1.
// Output d: sum_j p_j (r_j + gamma(n + 8)) V_jd with V = |zero| + |scale| last. Weights that logits of such size leave open still
//   average the values, so the first term is at most their range. With planes p_j * scale_j is rounded to 2^-15 of the largest in its
//   page: 2^-15 * max_j (p_j scale_j) * sum_j last. The rotation back is orthonormal: the bound of a block's element is the block's sum
//   / sqrt(B), plus its own gamma(2 + log2 B) * (sum of |o|) / sqrt(B).
// Kernels that multiply 16-bit numbers round each q and p once more, by at most `product`, which adds to both gammas of the sums.
#include "tests/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tests/reference/quantizers.h"

namespace kvc_reference {
namespace {

constexpr double u = 0x1p-24;
constexpr double function_error = 0x1p-21;  // of expf and of the rescaling factors
constexpr double plane_rounding = 0x1p-15;
constexpr double infinity = std::numeric_limits<double>::infinity();

double gamma(double n) { return n * u / (1 - n * u); }

double magnitude(const Form& f, size_t d) {
    return f.scale ? std::fabs(f.zero[d]) + std::fabs(f.scale[d]) * f.last : std::fabs(f.value[d]);
}

// How far a weight p may be off: a relative error that nothing limits leaves at most 1.
double off_by(double p, double relative) { return relative == infinity ? 1.0 : std::min(1.0, p * relative); }

// Spreads per-element bounds of a block through an orthonormal butterfly.
std::vector<double> rotated_bound(const std::vector<double>& bound, const std::vector<double>& size) {
    const size_t block = static_cast<size_t>(rotation_block(static_cast<int64_t>(bound.size())));
    const double root = std::sqrt(static_cast<double>(block));
    std::vector<double> out(bound.size());
    for (size_t from = 0; from < bound.size(); from += block) {
        double sum = 0;
        for (size_t d = from; d < from + block; ++d)
            sum += bound[d] + gamma(2 + std::log2(static_cast<double>(block))) * (std::fabs(size[d]) + bound[d]);
        std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(from), block, sum / root);
    }
    return out;
}

struct Logits {
    std::vector<double> value, error;
};

// The query as a token meets it, in the basis of the keys, and the error of each of its elements.
void met_query(const Query& query, const SeenToken& token, std::vector<double>& q, std::vector<double>& q_error) {
    q.assign(query.q, query.q + query.k_dim);
    q_error.assign(q.size(), 0.0);
    const size_t pairs = token.turned ? query.frequencies->size() : 0;
    const double products = query.turns_keys ? 2 * gamma(2 * static_cast<double>(q.size()) + 8) + 12 * u : 3 * u;
    for (size_t i = 0; i < pairs; ++i) {
        const size_t first = query.interleaved ? 2 * i : i, second = query.interleaved ? 2 * i + 1 : i + pairs;
        const double frequency = (*query.frequencies)[i], angle = token.distance * frequency;
        const double a = q[first], b = q[second], size = std::fabs(a) + std::fabs(b);
        q[first] = a * std::cos(angle) - b * std::sin(angle), q[second] = a * std::sin(angle) + b * std::cos(angle);
        const double angle_error = token.positions * std::fabs(frequency) * 0x1p-52 + 0x1p-45;
        q_error[first] = q_error[second] = size * (products + 2 * angle_error);
    }
    if (!query.rotate_k) return;
    q_error = rotated_bound(q_error, q);
    rotate_exact(q);
}

Logits logits_of(const Query& query, const std::vector<SeenToken>& seen) {
    const size_t dim = static_cast<size_t>(query.k_dim);
    std::vector<double> q, q_error;
    const SeenToken* before = nullptr;  // the token that q was made for
    const double product_error = gamma(2 * static_cast<double>(dim) + 8) + query.product;
    Logits logits;
    for (const SeenToken& token : seen) {
        if (!before || before->turned != token.turned || before->distance != token.distance) met_query(query, token, q, q_error);
        before = &token;
        double sum = 0, error = 0, largest = 0, codes = 0;
        for (size_t d = 0; d < dim; ++d) {
            const double size = magnitude(token.k, d);
            sum += q[d] * token.k.value[d];
            error += product_error * std::fabs(q[d]) * size + q_error[d] * size;
            if (token.k.scale) largest = std::max(largest, std::fabs(q[d] * token.k.scale[d])), codes += token.k.last;
        }
        if (query.planes) error += plane_rounding * largest * codes;
        double logit = query.scale * sum;
        error = std::fabs(query.scale) * error + 4 * u * std::fabs(logit);
        if (query.soft_cap > 0) {
            logit = query.soft_cap * std::tanh(logit / query.soft_cap);
            error += 0x1p-20 * query.soft_cap;
        }
        logits.value.push_back(logit);
        logits.error.push_back(error);
    }
    return logits;
}

// Values weighted by p into out, and the bound of each element, still in the stored basis.
void weigh_values(const Query& query, const std::vector<SeenToken>& seen, Attention& result) {
    const size_t dim = static_cast<size_t>(query.v_dim);
    std::map<int64_t, double> largest;  // p * scale per page
    for (size_t j = 0; j < seen.size(); ++j)
        if (seen[j].v.scale) {
            double& most = largest[seen[j].page];
            for (size_t d = 0; d < dim; ++d)
                most = std::max(most, (result.p[j] + result.p_bound[j]) * std::fabs(seen[j].v.scale[d]));
        }
    const double sum_error = gamma(static_cast<double>(seen.size()) + 8) + query.product;
    std::vector<double> weights(dim), sums(dim), low(dim, query.has_sink ? 0.0 : infinity), high(dim, query.has_sink ? 0.0 : -infinity);
    for (size_t j = 0; j < seen.size(); ++j) {
        const double planes = query.planes && seen[j].v.scale ? plane_rounding * largest[seen[j].page] * seen[j].v.last : 0.0;
        for (size_t d = 0; d < dim; ++d) {
            const double size = magnitude(seen[j].v, d), value = seen[j].v.value[d];
            result.out[d] += result.p[j] * value;
            weights[d] += result.p_bound[j] * size;
            sums[d] += (result.p[j] + result.p_bound[j]) * sum_error * size + planes;
            low[d] = std::min(low[d], value), high[d] = std::max(high[d], value);
        }
    }
    for (size_t d = 0; d < dim; ++d) {
        sums[d] += query.product * std::max(std::fabs(low[d]), std::fabs(high[d]));  // their sum, which divides the result
        // However wrong the weights are, they are weights: the result stays between the values.
        result.out_bound[d] = std::min(weights[d], high[d] - low[d]) + sums[d];
    }
}

}  // namespace

int64_t rotation_block(int64_t dim) { return dim & -dim; }

void rotate_exact(std::vector<double>& x) {
    const size_t block = static_cast<size_t>(rotation_block(static_cast<int64_t>(x.size())));
    for (size_t half = 1; half < block; half *= 2)
        for (size_t i = 0; i < x.size(); ++i)
            if ((i & half) == 0) {
                const double a = x[i], b = x[i + half];
                x[i] = a + b, x[i + half] = a - b;
            }
    for (double& value : x)
        value /= std::sqrt(static_cast<double>(block));
}

Attention attend(const Query& query, const std::vector<SeenToken>& seen) {
    const size_t dim = static_cast<size_t>(query.v_dim);
    Attention result;
    result.out.assign(dim, 0.0);
    result.out_bound.assign(dim, 0.0);
    Logits logits = logits_of(query, seen);
    double most = query.has_sink ? query.sink_logit : -std::numeric_limits<double>::infinity();
    for (double logit : logits.value)
        most = std::max(most, logit);
    if (std::isinf(most)) {
        result.lse = most;
        return result;
    }
    double sum = query.has_sink ? std::exp(query.sink_logit - most) : 0.0;
    for (double logit : logits.value)
        sum += std::exp(logit - most);
    result.lse = most + std::log(sum);

    const double n = static_cast<double>(seen.size());
    double denominator_error = gamma(n + 8) + 4 * function_error;
    std::vector<double> relative;
    for (size_t j = 0; j < seen.size(); ++j) {
        const double e = logits.error[j] + 2 * u * (std::fabs(logits.value[j]) + std::fabs(most)) + (n / 64 + 8) * function_error;
        result.p.push_back(std::exp(logits.value[j] - result.lse));
        relative.push_back(e);
        denominator_error += result.p[j] * std::expm1(e);
    }
    for (size_t j = 0; j < seen.size(); ++j) {
        relative[j] = denominator_error < 1 ? (1 + std::expm1(relative[j])) / (1 - denominator_error) - 1 : infinity;
        result.p_bound.push_back(off_by(result.p[j], relative[j]));
    }
    result.lse_bound =
        (denominator_error < 1 ? -std::log1p(-denominator_error) : infinity) + 4 * u * (std::fabs(result.lse) + std::fabs(most));
    weigh_values(query, seen, result);
    if (query.rotate_v) {
        result.out_bound = rotated_bound(result.out_bound, result.out);
        rotate_exact(result.out);
    }
    for (size_t d = 0; d < dim; ++d)
        result.out_bound[d] += 4 * u * std::fabs(result.out[d]) + 0x1p-120;
    return result;
}

}  // namespace kvc_reference

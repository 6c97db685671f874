#include "bench/gpu/exact_row.h"

#include <algorithm>
#include <cmath>

#include "core/base/half.h"

namespace kvc_bench {

void ExactRow::add(const std::vector<float>& k, const std::vector<float>& v, int64_t tokens) {
    for (int64_t t = 0; t < tokens; t++) {
        double dot = 0;
        for (int i = 0; i < k_dim_; i++) {
            dot += double(q_[i]) * double(k[size_t(t * k_dim_ + i)]);
        }
        const double p = std::exp(dot * scale_);  // Gaussian numbers: logits are of the size of 1
        sum_ += p;
        for (int i = 0; i < v_dim_; i++) {
            o_[size_t(i)] += p * double(v[size_t(t * v_dim_ + i)]);
        }
    }
}

double ExactRow::lse() const { return std::log(sum_); }

ExactRow exact_row(const DecodeCache& cache, const RowPlace& place, const float* q, double scale) {
    const kvc::LayerFormat& f = cache.format();
    const PatternPages& p = cache.patterns();
    ExactRow exact(q, f.k_dim, f.v_dim, scale);
    exact.add(p.sink_k, p.sink_v, f.codec.sinks);
    for (int64_t page = 0; page < cache.coded_pages(); page++) {
        const auto n = size_t(cache.coded_pattern(place.layer, place.sequence, place.kv_head, page));
        exact.add(p.code_k[n], p.code_v[n], kvc::page_tokens);
    }
    for (int64_t page = 0; page * kvc::page_tokens < place.window_tokens; page++) {
        const auto n = size_t(cache.window_pattern(place.layer, place.sequence, place.kv_head, page));
        exact.add(p.row_k[n], p.row_v[n], std::min<int64_t>(kvc::page_tokens, place.window_tokens - page * kvc::page_tokens));
    }
    return exact;
}

void compare(const ExactRow& exact, const uint16_t* out, float lse, Errors* errors) {
    double error = 0, energy = 0;
    for (int d = 0; d < exact.v_dim(); d++) {
        const double difference = double(kvc::f32_from_f16(out[d])) - exact.out(d);
        error += difference * difference;
        energy += exact.out(d) * exact.out(d);
    }
    const double relative = std::sqrt(error / energy), lse_error = std::abs(double(lse) - exact.lse());
    // Written so that no number is the largest error.
    errors->out = relative <= errors->out ? errors->out : relative;
    errors->lse = lse_error <= errors->lse ? errors->lse : lse_error;
    errors->rows++;
}

}  // namespace kvc_bench

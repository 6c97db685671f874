#include "bench/peers/exact_attention.h"

#include <algorithm>
#include <cmath>

namespace bench {

std::vector<double> exact_attention(const ExactHead& head, const float* query, int64_t visible) {
    std::vector<double> weights(static_cast<size_t>(visible));
    double largest = -INFINITY;
    for (int64_t t = 0; t < visible; t++) {
        double dot = 0;
        for (int64_t i = 0; i < head.dim; i++)
            dot += double(query[i]) * double(head.k[t * head.dim + i]);
        weights[size_t(t)] = dot / std::sqrt(double(head.dim));
        largest = std::max(largest, weights[size_t(t)]);
    }
    double sum = 0;
    std::vector<double> out(static_cast<size_t>(head.dim));
    for (int64_t t = 0; t < visible; t++) {
        const double weight = std::exp(weights[size_t(t)] - largest);
        sum += weight;
        for (int64_t i = 0; i < head.dim; i++)
            out[size_t(i)] += weight * double(head.v[t * head.dim + i]);
    }
    for (double& x : out)
        x /= sum;
    return out;
}

void RelativeError::add(const std::vector<double>& exact, const float* got) {
    for (size_t i = 0; i < exact.size(); i++) {
        difference_ += (double(got[i]) - exact[i]) * (double(got[i]) - exact[i]);
        norm_ += exact[i] * exact[i];
    }
}

double RelativeError::value() const { return std::sqrt(difference_ / norm_); }

}  // namespace bench

#include "tests/reference/merging.h"

#include <algorithm>
#include <cmath>

namespace kvc_reference {
namespace {

double product(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t d = 0; d < a.size(); ++d)
        sum += a[d] * b[d];
    return sum;
}

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
    const double lengths = std::sqrt(product(a, a)) * std::sqrt(product(b, b));
    return lengths > 0 ? product(a, b) / lengths : 0;
}

void add_scaled(std::vector<double>& to, const std::vector<double>& from, double factor) {
    for (size_t d = 0; d < to.size(); ++d)
        to[d] += factor * from[d];
}

}  // namespace

std::vector<int64_t> nearest_kept(const MergedHead& head, const std::vector<bool>& keep, int64_t first_target, double threshold) {
    std::vector<int64_t> into;
    for (size_t i = 0; i < keep.size(); ++i) {
        int64_t nearest = keep[i] ? static_cast<int64_t>(i) : joins_nothing;
        double best = threshold;
        for (auto j = static_cast<size_t>(first_target); j < keep.size() && !keep[i]; ++j)
            if (keep[j] && cosine(head.k[i], head.k[j]) >= best) best = cosine(head.k[i], head.k[j]), nearest = static_cast<int64_t>(j);
        into.push_back(nearest);
    }
    return into;
}

MergedHead merged(const MergedHead& head, const std::vector<int64_t>& into, bool keys) {
    MergedHead out;
    for (size_t i = 0; i < into.size(); ++i) {
        if (into[i] != static_cast<int64_t>(i)) continue;
        int64_t count = 0;
        std::vector<double> k(head.k[i].size()), v(head.v[i].size());
        for (size_t j = 0; j < into.size(); ++j) {
            if (into[j] != static_cast<int64_t>(i)) continue;
            count += head.counts[j];
            add_scaled(k, head.k[j], static_cast<double>(head.counts[j]));
            add_scaled(v, head.v[j], static_cast<double>(head.counts[j]));
        }
        for (std::vector<double>* row : {&k, &v})
            for (double& x : *row)
                x /= static_cast<double>(count);
        out.positions.push_back(head.positions[i]);
        out.counts.push_back(count);
        out.k.push_back(keys ? k : head.k[i]);
        out.v.push_back(v);
    }
    return out;
}

std::vector<double> weighed_attention(const MergedHead& head, const std::vector<float>& q, double scale, bool biased, double* out_lse) {
    const std::vector<double> query(q.begin(), q.end());
    std::vector<double> logits, out(head.v.at(0).size());
    for (size_t i = 0; i < head.k.size(); ++i)
        logits.push_back(scale * product(query, head.k[i]) + (biased ? std::log(static_cast<double>(head.counts[i])) : 0.0));
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double& x : logits)
        sum += x = std::exp(x - largest);
    for (size_t i = 0; i < logits.size(); ++i)
        add_scaled(out, head.v[i], logits[i] / sum);
    *out_lse = largest + std::log(sum);
    return out;
}

}  // namespace kvc_reference

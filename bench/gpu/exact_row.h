// Attention of single rows in double precision, over the numbers that the records of a DecodeCache stand for.
#pragma once
#include <vector>

#include "bench/gpu/decode_cache.h"

namespace kvc_bench {

class ExactRow {
public:
    ExactRow(const float* q, int k_dim, int v_dim, double scale)
        : q_(q), k_dim_(k_dim), v_dim_(v_dim), scale_(scale), o_(size_t(v_dim)) {}

    void add(const std::vector<float>& k, const std::vector<float>& v, int64_t tokens);
    int v_dim() const { return v_dim_; }
    double out(int i) const { return o_[size_t(i)] / sum_; }
    double lse() const;

private:
    const float* q_;
    int k_dim_, v_dim_;
    double scale_, sum_ = 0;
    std::vector<double> o_;
};

// Whose cache a row sees, and how many tokens behind the coded pages.
struct RowPlace {
    int64_t layer, sequence;
    int kv_head;
    int64_t window_tokens;
};
ExactRow exact_row(const DecodeCache& cache, const RowPlace& place, const float* q, double scale);

struct Errors {
    double out = 0, lse = 0;  // the largest relative error of a row, and difference of log-sum-exps
    int64_t rows = 0;

    bool are_small() const { return rows > 0 && out <= 3e-3 && lse <= 2e-3; }
};
// out: [v_dim] halves.
void compare(const ExactRow& exact, const uint16_t* out, float lse, Errors* errors);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace kvc_bench

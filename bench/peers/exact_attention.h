// Attention in double precision, to see that every side of a comparison computes the same thing.
#pragma once
#include <cstdint>
#include <vector>

namespace bench {

struct ExactHead {
    const float* k;  // [tokens][dim]
    const float* v;
    int64_t tokens, dim;
};

// Causal attention of one query at the position `visible` - 1 over the first `visible` tokens; scale 1 / sqrt(dim).
std::vector<double> exact_attention(const ExactHead& head, const float* query, int64_t visible);

// Collects the Euclidean norms of differences and of the exact values.
class RelativeError {
public:
    void add(const std::vector<double>& exact, const float* got);
    double value() const;

private:
    double difference_ = 0, norm_ = 0;
};

}  // namespace bench

// The statistics of core/backend/key_statistics.h on the host, of rows that lie there.
#pragma once
#include <span>
#include <vector>

#include "core/backend/key_statistics.h"
#include "core/store/query_sums.h"

namespace kvc {

// Mean and variance of the queries of each head that has seen some.
struct QueryMoments {
    int64_t heads = 0;
    std::vector<double> mean, variance;  // [heads][dim]
};
QueryMoments query_moments(std::span<const QuerySums> queries, int64_t dim);

// Of keys [tokens][dim]; [heads][tokens] of logits, otherwise [tokens].
std::vector<double> key_statistics(KeyStatistic statistic, std::span<const float> keys, int64_t dim, const QueryMoments& queries);
// Lengths of rows [tokens][dim].
std::vector<float> row_norms(std::span<const float> rows, int64_t dim);

// Rows [tokens][dim] divided by their lengths; a row of zeros stays.
std::vector<double> unit_rows(std::span<const float> rows, int64_t dim);
double dot_rows(const double* a, const double* b, int64_t dim);

}  // namespace kvc

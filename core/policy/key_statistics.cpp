#include "core/policy/key_statistics.h"

#include <algorithm>
#include <cmath>

namespace kvc {
namespace {

double square_of(std::span<const float> row) {
    double square = 0;
    for (const float x : row)
        square += double(x) * x;
    return square;
}

double length_of(std::span<const float> row) {
    const double square = square_of(row);
    return square > 0 ? std::sqrt(square) : 1;
}

std::vector<double> alignments(std::span<const float> keys, size_t dim) {
    const size_t tokens = keys.size() / dim;
    std::vector<double> sum(dim), lengths(tokens), out(tokens);
    for (size_t first = 0; first < tokens; first += size_t(statistic_run)) {
        std::vector<double> of_run(dim);
        for (size_t i = first; i < std::min(tokens, first + size_t(statistic_run)); i++) {
            const std::span<const float> key = keys.subspan(i * dim, dim);
            lengths[i] = length_of(key);
            for (size_t d = 0; d < dim; d++)
                of_run[d] += key[d] / lengths[i];
        }
        for (size_t d = 0; d < dim; d++)
            sum[d] += of_run[d];
    }
    for (size_t i = 0; i < tokens; i++) {
        double dot = 0;
        for (size_t d = 0; d < dim; d++)
            dot += keys[i * dim + d] * sum[d];
        out[i] = dot / lengths[i];
    }
    return out;
}

std::vector<double> logits(std::span<const float> keys, size_t dim, const QueryMoments& queries) {
    const size_t tokens = keys.size() / dim;
    const double scale = 1 / std::sqrt(double(dim));
    std::vector<double> out;
    for (size_t h = 0; h < size_t(queries.heads); h++) {
        const double *mean = &queries.mean[h * dim], *variance = &queries.variance[h * dim];
        for (size_t i = 0; i < tokens; i++) {
            const std::span<const float> key = keys.subspan(i * dim, dim);
            double logit = 0;
            for (size_t d = 0; d < dim; d++)
                logit += key[d] * scale * (mean[d] + key[d] * scale * variance[d] / 2);
            out.push_back(logit);
        }
    }
    return out;
}

std::vector<double> similarities(std::span<const float> rows, int64_t dim) {
    const std::vector<double> keys = unit_rows(rows, dim);
    const int64_t tokens = int64_t(rows.size()) / dim;
    std::vector<double> out;
    for (int64_t i = 0; i < tokens; i++) {
        double most = -1;
        for (int64_t j = i + 1; j < std::min(tokens, i + 1 + similarity_reach); j++)
            most = std::max(most, dot_rows(&keys[size_t(i * dim)], &keys[size_t(j * dim)], dim));
        out.push_back(most);
    }
    return out;
}

}  // namespace

QueryMoments query_moments(std::span<const QuerySums> queries, int64_t dim) {
    QueryMoments out;
    for (const QuerySums& sums : queries) {
        if (sums.count == 0) continue;
        out.heads++;
        for (size_t d = 0; d < size_t(dim); d++) {
            const double mean = double(sums.sum[d]) * QuerySums::unit / double(sums.count);
            out.mean.push_back(mean);
            out.variance.push_back(std::max(0.0, double(sums.square[d]) * QuerySums::unit / double(sums.count) - mean * mean));
        }
    }
    return out;
}

std::vector<double> key_statistics(KeyStatistic statistic, std::span<const float> keys, int64_t dim, const QueryMoments& queries) {
    std::vector<double> squares;
    switch (statistic) {
    case KeyStatistic::square:
        for (size_t row = 0; row < keys.size(); row += size_t(dim))
            squares.push_back(square_of(keys.subspan(row, size_t(dim))));
        return squares;
    case KeyStatistic::alignment:
        return alignments(keys, size_t(dim));
    case KeyStatistic::logits:
        return logits(keys, size_t(dim), queries);
    case KeyStatistic::similarity:
        return similarities(keys, dim);
    default:
        return {};
    }
}

std::vector<float> row_norms(std::span<const float> rows, int64_t dim) {
    std::vector<float> out;
    for (size_t row = 0; row < rows.size(); row += size_t(dim))
        out.push_back(float(std::sqrt(square_of(rows.subspan(row, size_t(dim))))));
    return out;
}

std::vector<double> unit_rows(std::span<const float> rows, int64_t dim) {
    std::vector<double> out(rows.begin(), rows.end());
    for (size_t row = 0; row < out.size(); row += size_t(dim)) {
        const double length = length_of(rows.subspan(row, size_t(dim)));
        for (size_t d = row; d < row + size_t(dim); d++)
            out[d] /= length;
    }
    return out;
}

double dot_rows(const double* a, const double* b, int64_t dim) {
    double sum[4] = {};  // four chains, so that a sum does not wait for the one before
    int64_t d = 0;
    for (; d + 4 <= dim; d += 4) {
        for (int64_t j = 0; j < 4; j++)
            sum[j] += a[d + j] * b[d + j];
    }
    for (; d < dim; d++)
        sum[0] += a[d] * b[d];
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

}  // namespace kvc

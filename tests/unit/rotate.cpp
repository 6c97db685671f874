// The rotation against its definition as a matrix, written out in double precision.
#include <cmath>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#include "core/codec/canonical.h"

namespace {

// Entry (i, j) of S H S within one block: signs by the pairs of neighbouring bits of an index, Hadamard by the bits i and j share.
double matrix(int i, int j, int block) {
    const auto parity = [](int bits) {
        int odd = 0;
        for (; bits; bits /= 2) {
            odd ^= bits % 2;
        }
        return odd ? -1.0 : 1.0;
    };
    const auto sign = [&parity](int k) {
        int pairs = 0;
        for (int bit = 0; bit < 8; bit += 2) {
            pairs ^= (k >> bit & 1) & (k >> (bit + 1) & 1);
        }
        return parity(pairs);
    };
    return sign(i) * parity(i & j) * sign(j) / std::sqrt(double(block));
}

int block_of(int dim) {
    int block = 1;
    while (dim % (2 * block) == 0) {
        block *= 2;
    }
    return block;
}

std::vector<float> gaussian(int n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) {
        v = normal(random);
    }
    return x;
}

}  // namespace

TEST_CASE("rotate: equals the matrix S H S in blocks of the largest power of two, for every head dim") {
    for (int dim = 16; dim <= 256; dim += 16) {
        const std::vector<float> x = gaussian(dim, unsigned(dim));
        std::vector<float> y = x;
        kvc::rotate(y.data(), dim);
        const int block = block_of(dim);
        for (int i = 0; i < dim; ++i) {
            double expected = 0, size = 0;
            for (int j = 0; j < block; ++j) {
                const double term = matrix(i % block, j, block) * double(x[size_t(i / block * block + j)]);
                expected += term;
                size += std::abs(term);
            }
            // log2(block) additions and the final product round, each by 2^-24 of at most the sum of the sizes.
            REQUIRE(std::abs(double(y[size_t(i)]) - expected) <= size * 10 * 0x1p-24);
        }
    }
}

TEST_CASE("rotate: is its own inverse and keeps lengths") {
    for (const int dim : {16, 64, 80, 96, 112, 128, 240, 256}) {
        const std::vector<float> x = gaussian(dim, 7);
        std::vector<float> y = x;
        kvc::rotate(y.data(), dim);
        double before = 0, after = 0;
        for (int i = 0; i < dim; ++i) {
            before += double(x[size_t(i)]) * double(x[size_t(i)]);
            after += double(y[size_t(i)]) * double(y[size_t(i)]);
        }
        CHECK(after == doctest::Approx(before).epsilon(1e-5));
        kvc::rotate(y.data(), dim);
        for (int i = 0; i < dim; ++i) {
            REQUIRE(y[size_t(i)] == doctest::Approx(x[size_t(i)]).epsilon(1e-4));
        }
    }
}

TEST_CASE("rotate: a constant row, a single channel and alternating signs are all spread over their block") {
    // The signs are a bent function of the index: for even log2(block) these rows become equally large everywhere, for odd
    // log2(block) nowhere larger than sqrt(2) times that. Without signs a constant row would become one huge number.
    for (const int dim : {16, 32, 64, 128, 256}) {
        const bool even = dim == 16 || dim == 64 || dim == 256;
        for (int kind = 0; kind < 3; ++kind) {
            std::vector<float> x(size_t(dim), kind == 1 ? 0.0f : 1.0f);
            if (kind == 1) {
                x[size_t(dim / 3)] = std::sqrt(float(dim));
            }
            for (int i = 1; kind == 2 && i < dim; i += 2) {
                x[size_t(i)] = -1.0f;
            }
            kvc::rotate(x.data(), dim);
            for (const float v : x) {
                const float size = std::abs(v);
                REQUIRE(size <= (even || kind == 1 ? 1.0f : std::sqrt(2.0f)) * 1.00001f);
            }
        }
    }
}

TEST_CASE("rotate: zeros stay zeros") {
    std::vector<float> x(96, 0.0f);
    kvc::rotate(x.data(), 96);
    for (const float v : x) {
        CHECK(v == 0.0f);
    }
}

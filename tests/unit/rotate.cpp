// The rotation against its definition as a matrix, written out in double precision.
#include <cmath>
#include <doctest/doctest.h>
#include <random>
#include <vector>

#include "core/codec/canonical.h"

namespace {

// Entry (i, j) of H within one block: the sign by the bits that i and j share.
double matrix(int i, int j, int block) {
    int odd = 0;
    for (int bits = i & j; bits; bits /= 2) {
        odd ^= bits % 2;
    }
    return (odd ? -1.0 : 1.0) / std::sqrt(double(block));
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

TEST_CASE("rotate: equals the Hadamard matrix in blocks of the largest power of two, for every head dim") {
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

TEST_CASE("rotate: a single channel is spread evenly over its block, and no other") {
    for (const int dim : {16, 32, 64, 80, 96, 112, 128, 256}) {
        const int block = block_of(dim), channel = dim / 3;
        std::vector<float> x(size_t(dim), 0.0f);
        x[size_t(channel)] = std::sqrt(float(block));
        kvc::rotate(x.data(), dim);
        for (int i = 0; i < dim; ++i) {
            REQUIRE(std::abs(x[size_t(i)]) == doctest::Approx(i / block == channel / block ? 1.0 : 0.0));
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

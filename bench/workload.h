// What is measured: shapes, numbers to fill caches with, and a cold start for every sample.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct Shape {
    std::string name;
    int64_t kv_heads, q_heads, head_dim;
};

// L: 8 kv heads, 32 query heads, head_dim 128. S: 3, 9, 64 (SmolLM2-135M). Ends the program at any other name.
Shape shape_of(const std::string& name);

// Normally distributed numbers, the same on every run. A row is any stretch of one large pool: that costs nothing, and no two
// tokens near each other are equal.
class Numbers {
public:
    Numbers();
    // Fills `count` floats; equal seeds give equal numbers.
    void fill(float* out, int64_t count, uint64_t seed) const;
    std::vector<float> draw(int64_t count, uint64_t seed) const;

private:
    std::vector<float> pool_;
};

// 0 if the machine does not tell.
int64_t last_level_cache_bytes();

// Memory that is filled with ones, in huge pages where the host gives them, as kvc asks for its own. Ends the program if there is none.
class HugeBlock {
public:
    explicit HugeBlock(int64_t bytes);
    ~HugeBlock();
    HugeBlock(const HugeBlock&) = delete;
    HugeBlock& operator=(const HugeBlock&) = delete;
    std::byte* data() const { return data_; }
    int64_t bytes() const { return bytes_; }

private:
    int64_t bytes_;
    std::byte* data_;
};

// Moves `bytes` through this core with plain loads, as fast as it can; the sum of what it read.
uint64_t read_lines(const std::byte* block, int64_t bytes);

// Reads a buffer three times as large as the last-level cache, so that what was cached before is not any more.
class CacheFlush {
public:
    CacheFlush();
    void operator()();

private:
    HugeBlock block_;
    uint64_t sum_ = 0;
};

double seconds_now();
double median(std::vector<double> samples);

}  // namespace bench

#include "bench/workload.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <sys/mman.h>
#include <unistd.h>

namespace bench {
namespace {

constexpr int64_t pool_floats = int64_t{1} << 20;
constexpr int64_t line_bytes = 64;
constexpr int64_t ahead_bytes = 4096;                     // the hardware's prefetchers stop at a page; this carries over
constexpr int64_t flush_bytes_floor = int64_t{96} << 20;  // where the machine does not tell its last-level cache

// Spreads a seed over all 64 bits (the finalizer of MurmurHash3).
uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

}  // namespace

// The kernel knows what one core can use; the C library's answer may be the sum over a whole socket.
int64_t last_level_cache_bytes() {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index3/size");
    int64_t kibibytes = 0;
    if (file >> kibibytes) return kibibytes << 10;
    return std::max<int64_t>(0, sysconf(_SC_LEVEL3_CACHE_SIZE));
}

Shape shape_of(const std::string& name) {
    if (name == "L") return {"L", 8, 32, 128};
    if (name == "S") return {"S", 3, 9, 64};
    std::fprintf(stderr, "bench: no shape is called '%s' (L, S)\n", name.c_str());
    std::exit(2);
}

Numbers::Numbers() : pool_(size_t(pool_floats)) {
    std::mt19937_64 generator(20240607);
    std::normal_distribution<float> normal;
    for (float& x : pool_)
        x = normal(generator);
}

void Numbers::fill(float* out, int64_t count, uint64_t seed) const {
    constexpr int64_t stretch = 1024;
    for (int64_t done = 0; done < count; done += stretch) {
        const int64_t n = std::min(stretch, count - done);
        const uint64_t start = mix(seed * 0x9e3779b97f4a7c15ULL + uint64_t(done) + 1) % uint64_t(pool_floats - stretch);
        std::memcpy(out + done, pool_.data() + start, size_t(n) * sizeof(float));
    }
}

std::vector<float> Numbers::draw(int64_t count, uint64_t seed) const {
    std::vector<float> out(static_cast<size_t>(count));
    fill(out.data(), count, seed);
    return out;
}

HugeBlock::HugeBlock(int64_t bytes) : bytes_(bytes) {
    void* block = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        std::fprintf(stderr, "bench: no memory for a block of %lld bytes\n", static_cast<long long>(bytes));
        std::exit(1);
    }
    madvise(block, size_t(bytes), MADV_HUGEPAGE);
    std::memset(block, 1, size_t(bytes));
    data_ = static_cast<std::byte*>(block);
}

HugeBlock::~HugeBlock() { munmap(data_, size_t(bytes_)); }

// One load from each cache line moves the whole line; eight independent sums keep the loads from waiting for each other.
uint64_t read_lines(const std::byte* block, int64_t bytes) {
    uint64_t sums[8] = {};
    for (int64_t at = 0; at + 8 * line_bytes <= bytes; at += 8 * line_bytes) {
        for (int i = 0; i < 8; i++) {
            const std::byte* line = block + at + i * line_bytes;
            __builtin_prefetch(line + ahead_bytes);
            uint64_t word;
            std::memcpy(&word, line, sizeof word);
            sums[i] += word;
        }
    }
    uint64_t sum = 0;
    for (uint64_t s : sums)
        sum += s;
    return sum;
}

CacheFlush::CacheFlush() : block_(std::max(flush_bytes_floor, 3 * last_level_cache_bytes())) {}

void CacheFlush::operator()() {
    // Written back, so that the reads cannot be left out.
    *static_cast<volatile uint64_t*>(&sum_) = read_lines(block_.data(), block_.bytes());
}

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    const size_t n = samples.size();
    return n % 2 ? samples[n / 2] : 0.5 * (samples[n / 2 - 1] + samples[n / 2]);
}

}  // namespace bench

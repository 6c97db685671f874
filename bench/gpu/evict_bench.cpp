#include "bench/gpu/evict_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "kvc.h"

#include "core/backend/device.h"
#include "core/base/half.h"

namespace kvc_bench {
namespace {

constexpr int64_t fill_tokens = 512;    // of a step while the cache is filled
constexpr int64_t round_tokens = 64;    // that come, and then leave
constexpr int64_t spare_tokens = 4096;  // room beside the context, for what comes and for pages that tokens move into

using Clock = std::chrono::steady_clock;

double us_between(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double, std::micro>(end - begin).count();
}

// A figure of a failed call means nothing.
void require(bool done, const char* call, const kvc_error& error) {
    if (!done) {
        std::fprintf(stderr, "kvc_gpu_bench: %s: %s (%s)\n", call, error.message, kvc_status_name(error.status));
        std::exit(EXIT_FAILURE);
    }
}

class EvictedSequence {
public:
    EvictedSequence(const Shape& shape, const std::string& codec, int64_t layers) : shape_(shape), layers_(layers) {
        // The linker takes the archive's device that is named first: here, before the library's own objects ask for one.
        const kvc::Result<int64_t> devices = kvc::device_count();
        if (!devices.ok()) {
            std::fprintf(stderr, "kvc_gpu_bench: %s\n", devices.status().message.c_str());
            std::exit(EXIT_FAILURE);
        }
        kvc_options options;
        kvc_options_init(&options, sizeof options);
        options.device = KVC_CUDA;
        options.layers = layers;
        options.kv_heads = shape.kv_heads;
        options.q_heads = int64_t{shape.kv_heads} * shape.group;
        options.k_dim = shape.head_dim;
        options.arena_tokens = shape.context + spare_tokens;
        options.arena_growth = 1;
        std::snprintf(options.codec, sizeof options.codec, "%s", codec.c_str());
        cache_ = kvc_create(&options, nullptr, 0, &error_);
        require(cache_ != nullptr, "create", error_);
        seq_ = kvc_seq_create(cache_, nullptr, &error_);
        require(seq_ != 0, "seq_create", error_);
        rows_ = kvc_buffer_create(cache_, KVC_BUFFER_DEVICE, bytes_of(fill_tokens), &error_);
        require(rows_ != nullptr, "buffer_create", error_);
        std::normal_distribution<float> normal;
        std::vector<uint16_t> halves(size_t(bytes_of(fill_tokens) / 2));
        for (uint16_t& x : halves) {
            x = kvc::f16_from_f32(normal(random_));
        }
        require(!kvc_buffer_copy(cache_, rows_, KVC_CUDA, halves.data(), KVC_CPU, bytes_of(fill_tokens), &error_), "buffer_copy",
                error_);
    }
    ~EvictedSequence() {
        kvc_buffer_destroy(cache_, KVC_BUFFER_DEVICE, rows_, nullptr);
        kvc_destroy(cache_, nullptr);
    }
    EvictedSequence(const EvictedSequence&) = delete;
    EvictedSequence& operator=(const EvictedSequence&) = delete;

    // The rows' keys and values are the same numbers: an eviction does not look at them.
    void append(int64_t tokens) {
        kvc_step_options options;
        kvc_step_options_init(&options, sizeof options);
        options.kv_dtype = KVC_F16;
        options.buffers = KVC_CUDA;
        kvc_step* const step = kvc_step_begin(cache_, &seq_, &tokens, 1, nullptr, 0, &options, &error_);
        require(step != nullptr, "step_begin", error_);
        for (int64_t layer = 0; layer < layers_; layer++) {
            require(!kvc_append(step, layer, rows_, bytes_of(tokens), rows_, bytes_of(tokens), &error_), "append", error_);
        }
        require(!kvc_step_commit(step, nullptr, 0, &error_), "step_commit", error_);
        length_ += tokens;
        wait();
    }

    struct Times {
        double host_us, us;  // of a layer
    };
    Times evict(int64_t budget, bool by_scores, EvictResult* result) {
        const std::vector<float> scores = by_scores ? random_scores() : std::vector<float>{};
        const int64_t live = this->live(), waits = this->waits();
        kvc_evict_options options;
        kvc_evict_options_init(&options, sizeof options);
        options.budget = budget;
        kvc_evict_report report = {};
        report.struct_size = sizeof report;
        const Clock::time_point begin = Clock::now();
        require(!kvc_evict(cache_, seq_, by_scores ? scores.data() : nullptr, int64_t(scores.size()), &options, &report, &error_),
                "evict", error_);
        const Clock::time_point called = Clock::now();
        result->waits += this->waits() - waits;
        wait();
        const Clock::time_point done = Clock::now();
        result->correct &= report.tokens_evicted == (live - budget) * layers_ * shape_.kv_heads && this->live() == budget;
        return {us_between(begin, called) / double(layers_), us_between(begin, done) / double(layers_)};
    }

private:
    int64_t bytes_of(int64_t tokens) const { return tokens * shape_.kv_heads * shape_.head_dim * 2; }
    void wait() { require(!kvc_synchronize(cache_, &error_), "synchronize", error_); }

    int64_t waits() {
        kvc_stats stats = {};
        stats.struct_size = sizeof stats;
        require(!kvc_stats_get(cache_, &stats, &error_), "stats_get", error_);
        return stats.synchronizations;
    }

    int64_t live() {
        int64_t tokens = 0;
        require(!kvc_seq_live(cache_, seq_, layers_ - 1, shape_.kv_heads - 1, &tokens, &error_), "seq_live", error_);
        return tokens;
    }

    std::vector<float> random_scores() {
        std::uniform_real_distribution<float> uniform;
        std::vector<float> scores(size_t(layers_ * shape_.kv_heads * length_));
        for (float& score : scores) {
            score = uniform(random_);
        }
        return scores;
    }

    Shape shape_;
    int64_t layers_, length_ = 0;
    std::minstd_rand random_{11};
    kvc_error error_ = {sizeof(kvc_error), 0, ""};
    kvc_cache* cache_ = nullptr;
    kvc_seq seq_ = 0;
    void* rows_ = nullptr;
};

}  // namespace

EvictResult bench_evict(const Shape& shape, const std::string& codec, bool by_scores, int64_t layers, int rounds) {
    EvictedSequence sequence(shape, codec, layers);
    for (int64_t held = 0; held < shape.context; held += fill_tokens) {
        sequence.append(std::min(fill_tokens, shape.context - held));
    }
    EvictResult result{.by = by_scores ? "scores" : "recent", .layers = layers, .tokens = round_tokens};
    const int64_t budget = shape.context / 2;
    result.halving_us = sequence.evict(budget, by_scores, &result).us;
    std::vector<double> us, host_us;
    for (int round = 0; round < rounds; round++) {
        sequence.append(round_tokens);
        const auto times = sequence.evict(budget, by_scores, &result);
        us.push_back(times.us);
        host_us.push_back(times.host_us);
    }
    result.us = median_of(us);
    result.us_low = *std::min_element(us.begin(), us.end());
    result.us_high = *std::max_element(us.begin(), us.end());
    result.host_us = median_of(host_us);
    return result;
}

}  // namespace kvc_bench

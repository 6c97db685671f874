// A cache on the emulated CUDA device that is fed from buffers there, as by a server that keeps its numbers on the GPU.
#pragma once
#include <cstdio>
#include <doctest/doctest.h>
#include <kvc.h>
#include <string>
#include <vector>

#include "kernels/simt/fake_device.h"

namespace kvc_cuda_scripts {

struct DeviceShape {
    int64_t layers = 1, batch = 1;
    std::string codec = "int4", policy = "";
    int64_t arena_tokens = 512;
};

// One kv head, one query head.
class DeviceCache {
public:
    explicit DeviceCache(const DeviceShape& shape) : shape_(shape), counts_(size_t(shape.batch), 1) {
        kvc_options options;
        REQUIRE(kvc_options_init(&options, sizeof options) == KVC_OK);
        options.device = KVC_CUDA;
        options.layers = shape.layers, options.kv_heads = options.q_heads = 1, options.k_dim = options.v_dim = dim;
        options.arena_tokens = shape.arena_tokens, options.arena_sequences = shape.batch + 1;
        std::snprintf(options.codec, sizeof options.codec, "%s", shape.codec.c_str());
        std::snprintf(options.policy, sizeof options.policy, "%s", shape.policy.c_str());
        cache_ = kvc_create(&options, nullptr, 0, nullptr);
        REQUIRE(cache_ != nullptr);
        for (int64_t i = 0; i < shape.batch; i++)
            seqs_.push_back(kvc_seq_create(cache_, nullptr, nullptr));
        in_ = kvc_buffer_create(cache_, KVC_BUFFER_DEVICE, bytes(), nullptr);
        out_ = kvc_buffer_create(cache_, KVC_BUFFER_DEVICE, bytes(), nullptr);
        REQUIRE(out_ != nullptr);
        std::vector<float> numbers(size_t(shape.batch * dim));
        for (size_t i = 0; i < numbers.size(); i++)
            numbers[i] = float(i * 37 % 257) / 64 - 2;
        REQUIRE(kvc_buffer_copy(cache_, in_, KVC_CUDA, numbers.data(), KVC_CPU, bytes(), nullptr) == KVC_OK);
    }
    DeviceCache(const DeviceCache&) = delete;
    DeviceCache& operator=(const DeviceCache&) = delete;
    ~DeviceCache() { CHECK(kvc_destroy(cache_, nullptr) == KVC_OK); }

    // A token more for each sequence, through all layers.
    void step() {
        kvc_step_options options;
        REQUIRE(kvc_step_options_init(&options, sizeof options) == KVC_OK);
        options.buffers = KVC_CUDA;
        kvc_step* const step = kvc_step_begin(cache_, seqs_.data(), counts_.data(), shape_.batch, nullptr, 0, &options, nullptr);
        REQUIRE(step != nullptr);
        for (int64_t layer = 0; layer < shape_.layers; layer++) {
            REQUIRE(kvc_append(step, layer, in_, bytes(), in_, bytes(), nullptr) == KVC_OK);
            REQUIRE(kvc_attend(step, layer, in_, bytes(), out_, bytes(), nullptr, 0, nullptr, nullptr) == KVC_OK);
        }
        REQUIRE(kvc_step_commit(step, nullptr, 0, nullptr) == KVC_OK);
    }
    int64_t synchronizations() const {
        kvc_stats stats = {};
        stats.struct_size = sizeof stats;
        REQUIRE(kvc_stats_get(cache_, &stats, nullptr) == KVC_OK);
        return stats.synchronizations;
    }
    kvc_cache* get() const { return cache_; }
    kvc_seq seq(size_t i) const { return seqs_[i]; }

private:
    static constexpr int64_t dim = 64;
    int64_t bytes() const { return shape_.batch * dim * int64_t(sizeof(float)); }

    const DeviceShape shape_;
    const std::vector<int64_t> counts_;
    kvc_cache* cache_ = nullptr;
    std::vector<kvc_seq> seqs_;
    void *in_ = nullptr, *out_ = nullptr;
};

// As long as it lives the device does nothing for which no call waits.
struct HeldDevice {
    explicit HeldDevice(uint64_t seed) {
        kvc::simt::FakeDevice::get().set_order(seed);
        kvc::simt::FakeDevice::get().hold(true);
    }
    ~HeldDevice() {
        kvc::simt::FakeDevice::get().hold(false);
        kvc::simt::FakeDevice::get().set_order(0);
    }
};

inline int64_t waits_so_far() { return kvc::simt::FakeDevice::get().counts().waits; }

}  // namespace kvc_cuda_scripts

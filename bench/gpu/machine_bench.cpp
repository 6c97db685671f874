#include "bench/gpu/machine_bench.h"

#include <algorithm>
#include <random>

#include "core/base/half.h"

namespace kvc_bench {
namespace {

constexpr int64_t read_unit = 256 * 16 * 8;  // bytes that a block reads in one turn

std::vector<uint16_t> random_halves(int64_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<uint16_t> x(static_cast<size_t>(n));
    for (uint16_t& v : x) {
        v = kvc::f16_from_f32(normal(random));
    }
    return x;
}

// Random numbers over and over: memory of zeros may be faster than any cache.
Memory random_memory(int64_t bytes, int64_t distinct_bytes) {
    Memory memory(bytes);
    const Memory pattern = on_device(random_halves(std::min(bytes, distinct_bytes) / 2, 5));
    copy_on_device(memory.data(), pattern.data(), pattern.bytes());
    for (int64_t held = pattern.bytes(); held < bytes; held *= 2) {
        copy_on_device(memory.data() + held, memory.data(), std::min(held, bytes - held));
    }
    wait_for_device();
    return memory;
}

}  // namespace

Bandwidth measure_bandwidth(const DeviceInfo& device, int64_t bytes, int samples) {
    bytes = bytes / read_unit * read_unit;
    const Memory from = random_memory(bytes, 16 << 20), to(bytes), out(4);
    Bandwidth found;
    for (const int blocks_each : {4, 8, 16, 32}) {
        const int blocks = blocks_each * device.multiprocessors;
        const double us = median_of(time_rounds([&] { launch_read(from.data(), bytes, blocks, out.as<uint32_t>()); }, samples));
        found.read = std::max(found.read, double(bytes) / us * 1e6);
    }
    const double us = median_of(time_rounds([&] { copy_on_device(to.data(), from.data(), bytes); }, samples));
    found.copy = 2 * double(bytes) / us * 1e6;
    return found;
}

AppendResult bench_append(const kvc::LayerFormat& f, const Shape& shape, int64_t l2_bytes, int samples) {
    const int64_t pages = shape.batch * shape.kv_heads;
    const int64_t layers = std::max<int64_t>(2, 2 * l2_bytes / (pages * f.window_bytes) + 1);
    const Memory windows = random_memory(layers * pages * f.window_bytes, 16 << 20), codes(layers * pages * f.code_bytes);
    const Memory k = on_device(random_halves(pages * f.k_dim, 8)), v = on_device(random_halves(pages * f.v_dim, 9));
    const Memory first_bad = on_device(std::vector<unsigned long long>{~0ull});
    std::vector<PageJob> jobs;
    std::vector<kvc::StoreParams> stores;
    for (int64_t i = 0; i < layers * pages; i++) {
        jobs.push_back({windows.data() + i * f.window_bytes, codes.data() + i * f.code_bytes});
        stores.push_back({&f, k.data() + i % pages * f.k_dim * 2, v.data() + i % pages * f.v_dim * 2, kvc::Dtype::f16, f.k_dim, f.v_dim,
                          1, windows.data() + i * f.window_bytes, false, i % kvc::page_tokens, true});
    }
    const StoreJobs store_list(stores, first_bad.as<unsigned long long>());
    const Memory job_list = on_device(jobs);
    AppendResult result{.pages = pages};
    const double turns = double(layers);
    const auto quantize = [&] {
        for (int64_t layer = 0; layer < layers; layer++) {
            launch_quantize(f, job_list.as<PageJob>() + layer * pages, int(pages));
        }
    };
    if (!f.lossless) {
        result.quantize_us = median_of(time_rounds(quantize, samples)) / turns;
    }
    const auto store = [&] {
        for (int64_t layer = 0; layer < layers; layer++) {
            store_list.launch(layer * pages, pages);
        }
    };
    result.store_us = median_of(time_rounds(store, samples)) / turns;
    result.step_us = result.store_us + result.quantize_us / double(kvc::page_tokens);
    return result;
}

}  // namespace kvc_bench

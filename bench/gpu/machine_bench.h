// What the machine itself does, and what appending costs.
#pragma once
#include "bench/gpu/decode_cache.h"
#include "bench/gpu/device.h"

namespace kvc_bench {

struct Bandwidth {
    double read = 0;  // bytes a second, of plain 16-byte loads
    double copy = 0;  // of a copy on the device, read and written bytes together
};
Bandwidth measure_bandwidth(const DeviceInfo& device, int64_t bytes, int samples);

struct AppendResult {
    int64_t pages = 0;       // one for each (sequence, kv head)
    double quantize_us = 0;  // of all pages of a layer, which fill up once in 64 steps
    double store_us = 0;     // one token of each (sequence, kv head)
    double step_us = 0;      // store and a 64th of quantize
};
AppendResult bench_append(const kvc::LayerFormat& format, const Shape& shape, int64_t l2_bytes, int samples);

}  // namespace kvc_bench

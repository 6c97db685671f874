// How far outputs of the CPU and of a CUDA device may lie apart.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/laws/device_session.h"

namespace kvc_cuda_scripts {

// Of two attends' outputs, f32.
inline double largest_difference(const kvc_laws::Bytes& a, const kvc_laws::Bytes& b) {
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (size_t i = 0; i < a.size(); i += sizeof(float)) {
        float x = 0, y = 0;
        std::memcpy(&x, &a[i], sizeof x), std::memcpy(&y, &b[i], sizeof y);
        largest = std::max(largest, static_cast<double>(std::fabs(x - y)));
    }
    return largest;
}

// The presets, and keys in groups of 64 tokens, which no preset has; those have kernels at head dims 64 and 128 alone.
inline std::vector<std::string> codecs_of_device() {
    std::vector<std::string> codecs = kvc_laws::presets();
    codecs.insert(codecs.end(), {"k=int4.ch.g64.m8,v=int4.tok.rot.sym", "k=int2.ch.g64,v=int2.tok.ls"});
    return codecs;
}

constexpr double tolerance = 0.02;  // of outputs of magnitude 1, for products of fp16 numbers

}  // namespace kvc_cuda_scripts

// The bytes of records, pinned: a change here is a change of docs/FORMATS.md, and caches that were saved before it are lost.
// The numbers were made with the scalar target; every target must make the same bytes.
#include <doctest/doctest.h>
#include <string>

#include "tests/kernels/head.h"

using namespace kvc_test;

namespace {

// Multiples of 2^-9 from integers alone, so that inputs are the same on every machine; every seventh channel has a mean.
std::vector<float> page_numbers(int dim, uint32_t seed) {
    std::vector<float> x(static_cast<size_t>(page_tokens) * static_cast<size_t>(dim));
    uint32_t state = seed;
    for (size_t i = 0; i < x.size(); ++i) {
        int sum = 0;  // of four uniform numbers: bell-shaped
        for (int k = 0; k < 4; ++k) {
            state = state * 1664525u + 1013904223u;
            sum += int(state >> 22) - 512;
        }
        x[i] = float(sum) * 0x1p-9f + (i % size_t(dim) % 7 == 2 ? 3.0f : 0.0f);
    }
    return x;
}

// FNV-1a, 64 bits.
uint64_t digest(const std::byte* bytes, int64_t n) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; ++i) {
        hash = (hash ^ uint64_t(bytes[i])) * 0x100000001b3u;
    }
    return hash;
}

struct Golden {
    const char* codec;
    int k_dim, v_dim;
    uint64_t window, codes;
};

const Golden goldens[] = {
    {"fp16", 64, 64, 0xda1982bc196979eau, 0},
    {"bf16", 64, 64, 0xded115854e2bfc0bu, 0},
    {"int8", 64, 64, 0x36dafe27a0aa6b23u, 0x6b0d2b69a091b82cu},
    {"int4", 64, 64, 0x36dafe27a0aa6b23u, 0x847a0dcd90de8b7eu},
    {"int3", 64, 64, 0x36dafe27a0aa6b23u, 0x90354a1e67db8796u},
    {"k3v2", 64, 64, 0x36dafe27a0aa6b23u, 0x0c49964275afb491u},
    {"int2", 64, 64, 0x36dafe27a0aa6b23u, 0x4a82af99d94a898du},
    {"kivi4", 64, 64, 0xda1982bc196979eau, 0x43318068f7134a62u},
    {"kivi2", 64, 64, 0xda1982bc196979eau, 0xc1eb8f2589552c84u},
    {"int8", 80, 80, 0x1e67337aa3a06757u, 0x713d104828c4aaf8u},
    {"int4", 128, 128, 0xf3bdcdc26fdeb130u, 0xfc263197bad863c1u},
    {"int3", 112, 96, 0x1bb0d88fa0b09b85u, 0x4f5049c57d9d8a4fu},
    {"k3v2", 128, 256, 0x52b5345daa553117u, 0x72763393a6fbaac5u},
    {"int2", 256, 16, 0x2192f7de6d3ad586u, 0xcdbbb69d7531389cu},
    {"kivi2", 96, 32, 0xe68fdfb4f0bb3aa2u, 0x89f847501edfeb0bu},
    {"k=int4.tok.rot,v=int4.ch.g64.m8", 64, 128, 0x0a9981227f895851u, 0xc40dd62a3d9a4c2au},
};

}  // namespace

TEST_CASE("golden: every target writes the bytes that docs/FORMATS.md had when they were recorded") {
    for_each_table([](const KernelTable& table) {
        for (const Golden& golden : goldens) {
            INFO(std::string(table.name), " ", std::string(golden.codec), " ", golden.k_dim, " ", golden.v_dim);
            const LayerFormat f = format_of(golden.codec, golden.k_dim, golden.v_dim);
            const std::vector<float> k = page_numbers(golden.k_dim, 1), v = page_numbers(golden.v_dim, 2);
            Records records;
            const RecordId window = records.add(f.window_bytes);
            REQUIRE(table.store({&f, k.data(), v.data(), kvc::Dtype::f32, f.k_dim, f.v_dim, page_tokens, records.at(window), false, 0,
                                 false}) == -1);
            CHECK(digest(records.at(window), f.window_bytes) == golden.window);
            if (f.lossless) {
                continue;
            }
            const RecordId codes = records.add(f.code_bytes);
            table.quantize({&f, records.at(window), records.at(codes)});
            CHECK(digest(records.at(codes), f.code_bytes) == golden.codes);
        }
    });
}

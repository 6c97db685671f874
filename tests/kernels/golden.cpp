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
    {"int8", 64, 64, 0x4bf28834d2034128u, 0x29844bece4babaf5u},
    {"int4", 64, 64, 0x4bf28834d2034128u, 0xc15250d1777a42c8u},
    {"int3", 64, 64, 0x4bf28834d2034128u, 0xa722fdfb7df5e384u},
    {"k3v2", 64, 64, 0x4bf28834d2034128u, 0x95901b351200a565u},
    {"int2", 64, 64, 0x4bf28834d2034128u, 0x067d6b4992c713a1u},
    {"kivi4", 64, 64, 0xda1982bc196979eau, 0x43318068f7134a62u},
    {"kivi2", 64, 64, 0xda1982bc196979eau, 0xc1eb8f2589552c84u},
    {"int8", 80, 80, 0x5d25e565b808648bu, 0x88759af21b002a1du},
    {"int4", 128, 128, 0xedad63f2b36917eau, 0xe1254d944ccd0d48u},
    {"int3", 112, 96, 0x35211c5d9f068b49u, 0x26c284df1919ac70u},
    {"k3v2", 128, 256, 0x9306f3785d57dd3du, 0x6ca285ec0c841343u},
    {"int2", 256, 16, 0x9c650e18396c73feu, 0x0db525d0598354afu},
    {"kivi2", 96, 32, 0xe68fdfb4f0bb3aa2u, 0x89f847501edfeb0bu},
    {"k=int4.tok.rot,v=int4.ch.g64.m8", 64, 128, 0x7935766e6ef2b42bu, 0xbf2efdb629de6f00u},
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

// The byte order of the CUDA backend's code records: stated places, and every code with a place of its own.
#include <array>
#include <cstring>
#include <doctest/doctest.h>
#include <set>

#include "kernels/cuda/pack.cuh"
#include "kernels/simt/table.h"
#include "tests/kernels/head.h"

using namespace kvc_test;
namespace cuda = kvc::cuda;

namespace {

struct Place {
    int token, channel;
    int byte, shift;
};

template <bool keys>
std::set<std::array<int, 2>> check_places(int dim) {
    std::set<std::array<int, 2>> places;
    std::set<std::array<int, 2>> codes;
    cuda::for_each_code<keys>(dim, [&](int byte, int shift, int token, int channel) {
        places.insert({byte, shift});
        codes.insert({token, channel});
        REQUIRE(byte >= 0);
        REQUIRE(byte < dim * page_tokens / 2);
    });
    CHECK(codes.size() == size_t(dim * page_tokens));
    return places;
}

template <bool keys>
void check_stated(int dim, const Place& stated) {
    int found = 0;
    cuda::for_each_code<keys>(dim, [&](int byte, int shift, int token, int channel) {
        if (token == stated.token && channel == stated.channel) {
            CHECK(byte == stated.byte);
            CHECK(shift == stated.shift);
            ++found;
        }
    });
    CHECK(found == 1);
}

}  // namespace

TEST_CASE("records: every code has a nibble of its own, for all head dims") {
    for (const int dim : {64, 80, 96, 112, 128, 192, 256}) {
        INFO(dim);
        CHECK(check_places<true>(dim).size() == size_t(dim * page_tokens));
        CHECK(check_places<false>(dim).size() == size_t(dim * page_tokens));
    }
}

// Written down once, from the drawing in docs/design/cuda.md; a change of these is a new format.
TEST_CASE("records: stated places of codes and metadata") {
    // Keys: bytes (fragment * 32 + lane) * 16 + t * 4 of a word; nibbles 4 upper + 8 (e / 2) + 16 (e % 2).
    check_stated<true>(64, {0, 0, 0, 0});
    check_stated<true>(64, {0, 1, 2, 0});
    check_stated<true>(64, {0, 2, 1, 0});
    check_stated<true>(64, {8, 0, 0, 4});
    check_stated<true>(64, {0, 4, 512, 0});
    check_stated<true>(64, {0, 8, 16, 0});
    check_stated<true>(64, {1, 0, 64, 0});
    check_stated<true>(64, {16, 0, 4, 0});
    check_stated<true>(80, {0, 64 + 4, 4 * 512 + 16, 0});  // the odd fragment: four channels a lane
    // Values: token pairs are the columns.
    check_stated<false>(64, {0, 0, 0, 0});
    check_stated<false>(64, {1, 0, 2, 0});
    check_stated<false>(64, {8, 0, 1, 0});
    check_stated<false>(64, {0, 1, 0, 4});
    check_stated<false>(64, {0, 2, 512, 0});
    check_stated<false>(64, {2, 0, 16, 0});
    check_stated<false>(64, {0, 8, 64, 0});
    CHECK(cuda::key_meta_offset(1, 2, 1, true, 3) == 111);
    CHECK(cuda::value_scale_offset(0) == 0);
    CHECK(cuda::value_scale_offset(9) == 6);
    CHECK(cuda::value_scale_offset(63) == 3 * 32 + 30);
}

TEST_CASE("records: pack and unpack are inverse, bytes between parts untouched") {
    const LayerFormat f = format_of("int4", 112, 112);
    const auto parts = std::make_unique<kvc::CanonicalPart[]>(4);
    const auto fill = [&f](const kvc::Codec& codec, int dim, unsigned seed, kvc::CanonicalPart* part) {
        const std::vector<float> x = gaussian(size_t(page_tokens * dim), seed);
        kvc::encode_part(codec, dim, x.data(), part);
    };
    fill(f.codec.k, f.k_dim, 1, &parts[0]);
    fill(f.codec.v, f.v_dim, 2, &parts[1]);
    std::vector<std::byte> record(size_t(f.code_bytes), std::byte{0x5a});
    cuda::pack_record(f, parts[0], parts[1], record.data());
    cuda::unpack_record(f, record.data(), &parts[2], &parts[3]);
    CHECK(kvc::same_part(f.codec.k, f.k_dim, parts[0], parts[2]));
    CHECK(kvc::same_part(f.codec.v, f.v_dim, parts[1], parts[3]));
    for (int64_t i = f.k.super + f.k.super_bytes; i < f.code_bytes; ++i) {
        REQUIRE(record[size_t(i)] == std::byte{0x5a});
    }
}

TEST_CASE("records: what the backend has no kernels for is refused with its reason") {
    const kvc::KernelTable& table = *kvc::simt::cuda_table();
    CHECK(table.unsupported(format_of("int4", 128, 128)) == nullptr);
    CHECK(table.unsupported(format_of("fp16", 80, 80)) == nullptr);
    for (const char* codec :
         {"int8", "int2", "bf16", "kivi4", "k=int4.ch.g64.m8,v=int4.tok.rot.sym", "k=int4.ch.g32.m8,v=int4.tok.rot.ls"}) {
        CHECK(std::string(table.unsupported(format_of(codec, 128, 128))).find("codecs other than") != std::string::npos);
    }
    CHECK(std::string(table.unsupported(format_of("int4", 128, 64))).find("head dims other than") != std::string::npos);
    const LayerFormat f = format_of("int8", 64, 64);
    CHECK_THROWS_AS(table.quantize({&f, nullptr, nullptr}), kvc::simt::Fault);
    kvc::LayerFormat moved = format_of("int4", 64, 64);
    moved.v.meta += 128;
    CHECK(std::string(table.unsupported(moved)).find("record layout") != std::string::npos);
}

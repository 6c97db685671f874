// The byte order of the CUDA backend's code records: stated places, and every code with a place of its own.
#include <algorithm>
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
    int byte, bit;  // of the code's lowest bit
};

// Every bit of every code has a place of its own, and together they fill the part.
void check_places(const cuda::CodeShape& shape) {
    std::set<std::array<int, 2>> places, codes;
    cuda::for_each_code(shape, [&](int token, int channel, const auto& bit_of) {
        codes.insert({token, channel});
        for (int n = 0; n < shape.bits; ++n) {
            const cuda::BitPlace at = bit_of(n);
            REQUIRE(at.byte >= 0);
            REQUIRE(at.byte < shape.dim * page_tokens / 8 * shape.bits);
            places.insert({at.byte, at.bit});
        }
    });
    CHECK(codes.size() == size_t(shape.dim * page_tokens));
    CHECK(places.size() == size_t(shape.dim * page_tokens * shape.bits));
}

void check_stated(const cuda::CodeShape& shape, const Place& stated) {
    INFO(shape.bits, " bits, keys ", shape.keys, ", token ", stated.token, " channel ", stated.channel);
    int found = 0;
    cuda::for_each_code(shape, [&](int token, int channel, const auto& bit_of) {
        if (token == stated.token && channel == stated.channel) {
            CHECK(bit_of(0).byte == stated.byte);
            CHECK(bit_of(0).bit == stated.bit);
            ++found;
        }
    });
    CHECK(found == 1);
}

void fill(const kvc::Codec& codec, int dim, unsigned seed, kvc::CanonicalPart* part) {
    const std::vector<float> x = gaussian(size_t(page_tokens * dim), seed);
    kvc::encode_part(codec, dim, x.data(), part);
}

}  // namespace

TEST_CASE("records: every bit of every code has a place of its own, for all widths and head dims") {
    for (const int bits : {2, 3, 4, 8}) {
        for (const int dim : {64, 80, 96, 112, 128, 192, 256}) {
            INFO(bits, " bits, dim ", dim);
            check_places({bits, dim, true, false});
            check_places({bits, dim, false, false});
            check_places({bits, dim, false, true});
        }
    }
}

// Written down once, from the drawing in docs/design/cuda.md; a change of these is a new format.
TEST_CASE("records: stated places of codes and metadata") {
    // Keys of 4 bits: 16 bytes a lane and fragment, 4 a token tile; bits 4 of rows 8 above, 8 of the higher channels.
    const cuda::CodeShape keys{4, 64, true, false};
    check_stated(keys, {0, 0, 0, 0});
    check_stated(keys, {0, 1, 2, 0});
    check_stated(keys, {0, 2, 1, 0});
    check_stated(keys, {8, 0, 0, 4});
    check_stated(keys, {0, 4, 512, 0});
    check_stated(keys, {0, 8, 16, 0});
    check_stated(keys, {1, 0, 64, 0});
    check_stated(keys, {16, 0, 4, 0});
    check_stated({4, 80, true, false}, {0, 64 + 4, 4 * 512 + 16, 0});  // the odd fragment: four channels a lane
    // Values: token pairs are the columns.
    const cuda::CodeShape values{4, 64, false, false};
    check_stated(values, {0, 0, 0, 0});
    check_stated(values, {1, 0, 2, 0});
    check_stated(values, {8, 0, 0, 4});
    check_stated(values, {0, 1, 1, 0});
    check_stated(values, {0, 2, 512, 0});
    check_stated(values, {2, 0, 16, 0});
    check_stated(values, {0, 8, 64, 0});
    check_stated({4, 64, false, true}, {0, 4, 64, 0});  // in groups: four channels a row of lanes
    check_stated({4, 64, false, true}, {0, 32, 1024, 0});
    // 8 bits: two arrays of 16 bytes a lane. 3 bits: 8 bytes a lane, then 4. 2 bits: 16 bytes for two fragments, 8 for an odd one.
    check_stated({8, 64, true, false}, {8, 2, 5, 0});
    check_stated({8, 64, true, false}, {63, 0, 512 + 7 * 64 + 12, 0});
    check_stated({8, 64, true, false}, {0, 4, 1024, 0});
    check_stated({3, 64, true, false}, {8, 0, 0, 3});
    check_stated({3, 64, true, false}, {8, 2, 1, 4});
    check_stated({3, 64, true, false}, {32, 0, 256, 0});
    check_stated({3, 64, true, false}, {48, 0, 0, 6});
    check_stated({3, 64, true, false}, {48, 2, 4, 6});
    check_stated({3, 64, true, false}, {56, 0, 256, 6});
    check_stated({3, 64, true, false}, {56, 2, 1, 7});
    check_stated({3, 64, true, false}, {0, 4, 384, 0});
    check_stated({2, 80, true, false}, {24, 0, 0, 6});
    check_stated({2, 80, true, false}, {63, 0, 7 * 64 + 4, 6});
    check_stated({2, 80, true, false}, {0, 4, 8, 0});
    check_stated({2, 80, true, false}, {0, 64 + 4, 4 * 256 + 8, 0});
    CHECK(cuda::key_meta_offset({2, false, false}, 1, 2, 1, true, 3) == 111);
    CHECK(cuda::key_meta_offset({2, true, true}, 1, 2, 1, true, 3) == 222);
    CHECK(cuda::key_meta_offset({1, false, false}, 1, 2, 0, true, 3) == 55);
    CHECK(cuda::key_meta_offset({1, true, false}, 1, 2, 0, true, 3) == 110);
    CHECK(cuda::value_scale_offset(0) == 0);
    CHECK(cuda::value_scale_offset(9) == 6);
    CHECK(cuda::value_scale_offset(63) == 3 * 32 + 30);
}

TEST_CASE("records: pack and unpack are inverse, bytes behind the parts untouched") {
    for (const char* codec :
         {"int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2", "k=int8.ch.g32.m8,v=int4.tok.ls",
          "k=int4.ch.g32.m8.clip0.95,v=int2.tok.rot.sym", "k=int4.ch.g64.m8,v=int4.tok.rot.sym",
          "k=int2.ch.g64.m8.clip0.9,v=int2.tok.ls", "k=int4.ch.g64,v=int4.tok.ls", "k=int2.ch.g64,v=int2.tok.rot.sym"}) {
        INFO(std::string(codec));
        const LayerFormat f = format_of(codec, 64, 64);
        const auto parts = std::make_unique<kvc::CanonicalPart[]>(4);
        fill(f.codec.k, f.k_dim, 1, &parts[0]);
        fill(f.codec.v, f.v_dim, 2, &parts[1]);
        std::vector<std::byte> record(size_t(f.code_bytes), std::byte{0x5a});
        cuda::pack_record(f, parts[0], parts[1], record.data());
        cuda::unpack_record(f, record.data(), &parts[2], &parts[3]);
        CHECK(kvc::same_part(f.codec.k, f.k_dim, parts[0], parts[2]));
        CHECK(kvc::same_part(f.codec.v, f.v_dim, parts[1], parts[3]));
        const int64_t end = std::max(f.v.meta + f.v.meta_bytes, f.k.super + f.k.super_bytes);
        for (int64_t i = end; i < f.code_bytes; ++i) {
            REQUIRE(record[size_t(i)] == std::byte{0x5a});
        }
    }
}

TEST_CASE("records: every preset is served at every head dim that it fits, and pairs of widths where the list says so") {
    const kvc::KernelTable& table = *kvc::simt::cuda_table();
    const std::pair<int, int> dims[] = {{64, 64}, {80, 80}, {96, 96}, {112, 112}, {128, 128}, {256, 256}, {96, 64}, {192, 128}};
    for (int i = 0; i < kvc::preset_count(); ++i) {
        for (const auto& [k_dim, v_dim] : dims) {
            INFO(std::string(kvc::preset_name(i)), " ", k_dim, " ", v_dim);
            if (fits(kvc::preset_name(i), k_dim, v_dim)) {
                CHECK(table.unsupported(format_of(kvc::preset_name(i), k_dim, v_dim)) == nullptr);
            }
        }
    }
    for (const char* codec : {"k=int8.ch.g32.m8,v=int4.tok.rot.ls", "k=int8.ch.g32.m8,v=int4.tok.sym", "k=int4.ch.g32.m8,v=int2.tok.ls",
                              "k=int4.ch.g32.m8,v=int4.tok.rot.ls", "k=int2.ch.g32.m8,v=int2.tok.sym.clip0.9"}) {
        INFO(std::string(codec));
        CHECK(table.unsupported(format_of(codec, 64, 64)) == nullptr);
        CHECK(table.unsupported(format_of(codec, 128, 128)) == nullptr);
    }
}

TEST_CASE("records: what the backend has no kernels for is refused with its reason") {
    const kvc::KernelTable& table = *kvc::simt::cuda_table();
    const auto refusal = [&table](const LayerFormat& f) {
        const char* const reason = table.unsupported(f);
        return std::string(reason ? reason : "");
    };
    struct Case {
        const char *codec, *reason;
    };
    for (const Case& c :
         {Case{"k=int8.ch.g64.m8,v=int8.tok.rot.sym", "together"}, Case{"k=int4.ch.g64.m8,v=int2.tok.sym", "together"},
          Case{"k=int4.ch.g64,v=int4.tok.g32", "together"}, Case{"k=int2.ch.g32.m8,v=int8.tok.sym", "together"},
          Case{"k=int4.ch.g32,v=int4.tok.sym", "together"}, Case{"k=int4.ch.g32.m8,v=int4.tok.g32", "together"},
          Case{"k=int3.ch.g32,v=int3.tok.g32", "together"}, Case{"k=int4.ch.g32,v=int4.tok.g64", "together"},
          Case{"k=int4.ch.g32.m8,v=int4.tok", "values other than"}, Case{"k=f16,v=int4.tok.sym", "16-bit keys"},
          Case{"k=int4.tok.rot,v=int4.ch.g32", "rotated keys"}, Case{"k=int4.tok,v=int4.tok.sym", "keys other than"},
          Case{"k=int4.ch.g32.m8,v=int4.ch.g32", "values other than"}, Case{"k=int4.ch.g32.m8.rot,v=int4.tok.sym", "rotated keys"}}) {
        INFO(std::string(c.codec));
        CHECK(refusal(format_of(c.codec, 128, 128)).find(c.reason) != std::string::npos);
    }
    CHECK(refusal(format_of("int4", 128, 64)).find("head dims other than") != std::string::npos);
    CHECK(refusal(format_of("k=int8.ch.g32.m8,v=int4.tok.sym", 96, 96)).find("head dims other than 64 and 128") != std::string::npos);
    CHECK(refusal(format_of("k=int4.ch.g64.m8,v=int4.tok.sym", 96, 96)).find("head dims other than 64 and 128") != std::string::npos);
    const LayerFormat f = format_of("k=int8.ch.g64.m8,v=int8.tok.rot.sym", 64, 64);
    CHECK_THROWS_AS(table.quantize({&f, nullptr, nullptr}), kvc::simt::Fault);
    for (const char* codec : {"int4", "kivi2", "k=int4.ch.g64.m8,v=int4.tok.sym", "k=int2.ch.g64,v=int2.tok.ls"}) {
        kvc::LayerFormat moved = format_of(codec, 64, 64);
        moved.v.meta += 128;
        CHECK(refusal(moved).find("record layout") != std::string::npos);
    }
    // Keys of a ladder whose lower rungs are rotated are rotated in 16 bits, too.
    kvc::LayerFormat rotated = format_of("fp16", 64, 64);
    rotated.codec.k.rotate = true;
    CHECK(refusal(rotated).find("rotated keys") != std::string::npos);
}

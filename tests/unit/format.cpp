// Record formats: the byte table of the design, and laws that hold for every codec and head dim.
#include "core/codec/format.h"

#include <doctest/doctest.h>
#include <string>
#include <utility>
#include <vector>

using kvc::LayerFormat;

namespace {

LayerFormat format_of(const char* codec, int64_t k_dim, int64_t v_dim) {
    const auto format = kvc::make_format(*kvc::parse_codec(codec), k_dim, v_dim);
    REQUIRE(format.ok());
    return *format;
}

int64_t tight_bytes(const LayerFormat& f) {
    return f.k.codes_bytes + f.v.codes_bytes + f.k.meta_bytes + f.v.meta_bytes + f.k.super_bytes + f.v.super_bytes;
}

}  // namespace

TEST_CASE("format: bytes of a page of every preset") {
    struct Row {
        const char* codec;
        int64_t dim, tight, aligned;
    };
    const Row rows[] = {{"int8", 64, 8584, 8704},   {"int4", 64, 4488, 4608},    {"int3", 64, 3464, 3584},  {"k3v2", 64, 2952, 3072},
                        {"int2", 64, 2440, 2560},   {"int8", 128, 17032, 17152}, {"int4", 128, 8840, 8960}, {"int3", 128, 6792, 6912},
                        {"k3v2", 128, 5768, 5888},  {"int2", 128, 4744, 4864},   {"kivi4", 64, 5120, 5120}, {"kivi2", 64, 3072, 3072},
                        {"fp16", 64, 16384, 16384}, {"bf16", 128, 32768, 32768}};
    for (const Row& row : rows) {
        INFO(row.codec, " ", row.dim);
        const LayerFormat f = format_of(row.codec, row.dim, row.dim);
        CHECK(tight_bytes(f) == row.tight);
        CHECK(f.code_bytes == row.aligned);
        CHECK(kvc::codec_bits(f) == doctest::Approx(double(row.aligned) * 8 / double(64 * 2 * row.dim)));
    }
}

TEST_CASE("format: parts lie inside the record, apart, even, with planes on 64 bytes, for all dims and presets") {
    for (int preset = 0; preset < kvc::preset_count(); ++preset) {
        const std::string name = kvc::preset_name(preset);
        for (int64_t k_dim = 16; k_dim <= 256; k_dim += 16) {
            for (int64_t v_dim = 16; v_dim <= 256; v_dim += 16) {
                const auto made = kvc::make_format(*kvc::parse_codec(name), k_dim, v_dim);
                if (name.starts_with("kivi") && v_dim % 32 != 0) {
                    REQUIRE(!made.ok());
                    continue;
                }
                REQUIRE(made.ok());
                const LayerFormat& f = *made;
                int64_t at = 0;
                for (const auto& [start, bytes] : std::vector<std::pair<int64_t, int64_t>>{{f.k.codes, f.k.codes_bytes},
                                                                                           {f.v.codes, f.v.codes_bytes},
                                                                                           {f.k.meta, f.k.meta_bytes},
                                                                                           {f.v.meta, f.v.meta_bytes},
                                                                                           {f.k.super, f.k.super_bytes},
                                                                                           {f.v.super, f.v.super_bytes}}) {
                    REQUIRE(start == at);
                    REQUIRE(bytes % 2 == 0);
                    at += bytes;
                }
                REQUIRE(f.k.codes % 64 == 0);
                REQUIRE(f.v.codes % 64 == 0);
                REQUIRE(f.code_bytes >= at);
                REQUIRE(f.code_bytes < at + 128);
                REQUIRE(f.code_bytes % 128 == 0);
                REQUIRE(f.k.codes_bytes == 8 * k_dim * kvc::bits_of(f.codec.k.type));
                REQUIRE(f.window_bytes == 64 * (k_dim + v_dim) * 2);
                REQUIRE(f.sink_bytes >= f.codec.sinks * (k_dim + v_dim) * 2);
                REQUIRE(f.sink_bytes % 128 == 0);
                REQUIRE((f.sink_bytes > 0) == (f.codec.sinks > 0));
                REQUIRE(f.lossless == (f.code_bytes == f.window_bytes));
                REQUIRE(f.bf16_window == (name == "bf16"));
            }
        }
    }
}

TEST_CASE("format: the high plane of three bits follows the low one") {
    const LayerFormat f = format_of("int3", 80, 112);
    CHECK(f.k.high_plane == f.k.codes + 64 * 80 * 2 / 8);
    CHECK(f.v.high_plane == f.v.codes + 64 * 112 * 2 / 8);
    CHECK(f.v.high_plane % 64 == 0);
    CHECK(format_of("k3v2", 64, 64).v.high_plane == 0);
}

TEST_CASE("format: keys and values may differ in width; only equal 16-bit types are lossless") {
    const LayerFormat mixed = format_of("k=f16,v=int4.tok.rot.ls", 128, 64);
    CHECK(!mixed.lossless);
    CHECK(mixed.k.codes_bytes == 64 * 128 * 2);
    CHECK(mixed.k.meta_bytes == 0);
    CHECK(mixed.v.codes == 64 * 128 * 2);
    CHECK(format_of("k=f16,v=f16", 64, 128).lossless);
    CHECK(format_of("bf16", 64, 128).bf16_window);
}

TEST_CASE("format: head dims and groups that do not fit are refused with the reason") {
    const auto message = [](const char* codec, int64_t k_dim, int64_t v_dim) {
        const auto format = kvc::make_format(*kvc::parse_codec(codec), k_dim, v_dim);
        REQUIRE(!format.ok());
        CHECK(format.status().code == kvc::Code::unsupported);
        return format.status().message;
    };
    for (const int64_t dim : {int64_t{-16}, int64_t{0}, int64_t{8}, int64_t{72}, int64_t{272}, int64_t{1} << 40}) {
        CHECK(message("int4", dim, 64).find("k_dim " + std::to_string(dim)) != std::string::npos);
        CHECK(message("fp16", 64, dim).find("v_dim") != std::string::npos);
    }
    CHECK(message("kivi4", 80, 80).find("32 channels") != std::string::npos);
    kvc::CodecPair pair = *kvc::parse_codec("int4");
    pair.k.group = 48;
    CHECK(!kvc::make_format(pair, 64, 64).ok());
    pair = *kvc::parse_codec("int4");
    pair.sinks = 1000;
    CHECK(!kvc::make_format(pair, 64, 64).ok());
}

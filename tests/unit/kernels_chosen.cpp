// A kernel table that lacks something is refused by name; no other one takes its place unasked.
#include <doctest/doctest.h>

#include "core/cache/config.h"

using namespace kvc;

namespace {

CacheConfig config_of(const char* codec, const char* target = "") {
    CacheConfig config;
    config.layers.resize(2);
    for (LayerConfig& layer : config.layers)
        layer.kv_heads = layer.q_heads = 1, layer.k_dim = layer.v_dim = 32, layer.codec = "int4";
    config.layers[1].codec = codec;
    config.target = target;
    return config;
}

std::vector<Layer> layers_of(const CacheConfig& config) {
    Result<std::vector<Layer>> layers = make_layers(config, PolicySpec{});
    REQUIRE(layers.ok());
    return *layers;
}

const char* no_three_bits(const LayerFormat& format) { return format.codec.k.type == CodeType::int3 ? "three bits" : nullptr; }

}  // namespace

TEST_CASE("kernels: a table that does not serve a layer's codes says which layer, which codec and why") {
    KernelTable table{};
    table.name = "abacus";
    table.unsupported = no_three_bits;
    CHECK(check_kernels(table, {}, layers_of(config_of("int8"))).ok());
    const Status status = check_kernels(table, {}, layers_of(config_of("int3")));
    CHECK(status.code == Code::unsupported);
    CHECK(status.message.find("target abacus does not serve layer 1 (k=int3.ch.g32.m8,") == 0);
    CHECK(status.message.find("three bits") != std::string::npos);
    RopeConfig before;
    before.keys_before = true;
    CHECK(check_kernels(table, before, layers_of(config_of("int8"))).code == Code::unsupported);
    table.rotates_keys = true;
    CHECK(check_kernels(table, before, layers_of(config_of("int8"))).ok());
}

TEST_CASE("kernels: every preset is served by every table of this machine, the best one first") {
    for (int i = 0; i < preset_count(); i++) {
        CAPTURE(preset_name(i));
        for (int t = 0; t < kernel_table_count(); t++) {
            const CacheConfig config = config_of(preset_name(i), kernel_table(t)->name);
            Result<const KernelTable*> chosen = choose_kernels(config, layers_of(config));
            REQUIRE(chosen.ok());
            CHECK(*chosen == kernel_table(t));
        }
        const CacheConfig config = config_of(preset_name(i));
        CHECK(*choose_kernels(config, layers_of(config)) == kernel_table(0));
    }
    const CacheConfig config = config_of("int4", "abacus");
    const Status status = choose_kernels(config, layers_of(config)).status();
    CHECK(status.code == Code::unsupported);
    CHECK(status.message.find("abacus") != std::string::npos);
    CHECK(status.message.find("scalar") != std::string::npos);
}

TEST_CASE("code types: planes of the high and the low bits have widths that the layouts know") {
    for (const CodeType type : {
#define KVC_CODE_TYPE(name, bits, high, step) CodeType::name,
#include "core/codec/code_types.def"
#undef KVC_CODE_TYPE
         }) {
        const int bits = bits_of(type), high = high_bits_of(type), low = bits - high;
        CAPTURE(bits);
        CHECK((low == 8 || low == 4 || low == 2 || low == 1));
        CHECK((high == 0 || high == 4 || high == 2 || high == 1));
        CHECK(high < low);
        CHECK(bits <= 8);
    }
}

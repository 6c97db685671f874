// Ladders of codecs: their grammar, their canonical form, and what is refused with which words.
#include "core/codec/ladder.h"

#include <doctest/doctest.h>
#include <string>

#include "core/cache/config.h"

namespace {

std::string canonical(const std::string& text) {
    const auto parsed = kvc::parse_ladder(text);
    return parsed.ok() ? kvc::format_ladder(*parsed) : "refused: " + parsed.status().message;
}

kvc::Code refusal(const std::string& text, const std::string& word) {
    const auto parsed = kvc::parse_ladder(text);
    if (parsed.ok()) return kvc::Code::ok;
    INFO(parsed.status().message);
    CHECK(parsed.status().message.find(word) != std::string::npos);
    return parsed.status().code;
}

kvc::Result<std::vector<kvc::Layer>> layer_of(const std::string& codec, int64_t dim = 64) {
    kvc::CacheConfig config;
    kvc::LayerConfig layer;
    layer.kv_heads = layer.q_heads = 1, layer.k_dim = layer.v_dim = dim;
    layer.codec = codec;
    config.layers = {layer};
    return kvc::make_layers(config, {});
}

}  // namespace

TEST_CASE("ladder: one rung is a codec, and canonical forms are their own") {
    CHECK(canonical("int4") == "k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=128,sinks=4");
    CHECK(canonical("int8/int4@4096/int2@16384") ==
          "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=64,sinks=4"
          "/k=int4.ch.g32.m8,v=int4.tok.rot.sym@4096"
          "/k=int2.ch.g32.m8.clip0.9,v=int2.tok.rot.ls@16384");
    CHECK(canonical("fp16/int8") == "k=f16,v=f16,window=64,sinks=4/k=int8.ch.g32.m8,v=int8.tok.rot.sym");
    CHECK(canonical("k=f16,v=f16,window=0,sinks=0/int8") == "k=f16,v=f16,window=0,sinks=0/k=int8.ch.g32.m8,v=int8.tok.rot.sym");
    for (const char* text : {"int8/int4", "fp16/int8@1/int4/int2@1099511627776", "kivi4/kivi2", "fp16,window=5/int4"})
        CHECK(canonical(canonical(text)) == canonical(text));
}

TEST_CASE("ladder: what makes no sense is refused by type") {
    using enum kvc::Code;
    CHECK(refusal("int8/", "empty") == argument);
    CHECK(refusal("/int8", "empty") == argument);
    CHECK(refusal("int8//int4", "empty") == argument);
    for (const char* age : {"", "0", "01", "-1", "1x", "1099511627777", "99999999999999"})
        CHECK(refusal(std::string("int8/int4@") + age, "age") == argument);
    CHECK(refusal("int8@5/int4", "codec") == argument);
    CHECK(refusal("int8/int4@100/int2@100", "older") == argument);
    CHECK(refusal("int8/int4@100/int3/int2@99", "older") == argument);
    CHECK(refusal("int8/int4,window=5", "first rung") == argument);
    CHECK(refusal("int8/fp16", "16 bits") == argument);
    CHECK(refusal("int4/int8", "bits") == argument);
    CHECK(refusal("bf16/int8", "bf16") == unsupported);
    CHECK(refusal("int8/kivi4", "rotated") == unsupported);
    CHECK(refusal("int8/int4/int4/int4/int4/int4/int4", "at most 6") == argument);
}

TEST_CASE("ladder: rungs shrink, and share sinks, window and basis") {
    CHECK(!layer_of("int4/int4").ok());
    CHECK(!layer_of("int8/k=int4.ch.g48,v=int4.tok.rot.sym").ok());
    const auto layers = layer_of("fp16/int8@100/int4@1000");
    REQUIRE(layers.ok());
    const kvc::Layer& layer = layers->front();
    CHECK(layer.rungs() == 3);
    CHECK(layer.format.codec.v.rotate);
    CHECK(!layer.format.codec.k.rotate);
    for (int64_t r = 1; r < 3; ++r) {
        CHECK(layer.rung(r).code_bytes < layer.rung(r - 1).code_bytes);
        CHECK(layer.rung(r).sink_bytes == layer.format.sink_bytes);
        CHECK(layer.rung_of_bytes(layer.rung(r).code_bytes) == r);
    }
    CHECK(layer.rung_of_bytes(layer.format.window_bytes) == 0);
    CHECK(kvc::pages_of_age(layer, 1, 103) == 0);
    CHECK(kvc::pages_of_age(layer, 1, 4 + 64 + 99) == 0);
    CHECK(kvc::pages_of_age(layer, 1, 4 + 64 + 100) == 1);
    CHECK(kvc::pages_of_age(layer, 2, 4 + 64 + 100) == 0);
    CHECK(kvc::has_ages(*layers));
    CHECK(!kvc::has_ages(*layer_of("int8/int4")));
}

// Codec strings: what is understood, in which canonical form, and what is refused with which words.
#include <doctest/doctest.h>
#include <string>

#include "core/codec/codec.h"
#include "tests/reference/quantizers.h"

using kvc::parse_codec;

namespace {

std::string canonical(std::string_view text) {
    const auto parsed = parse_codec(text);
    return parsed.ok() ? kvc::format_codec(*parsed) : "refused: " + parsed.status().message;
}

bool refused(std::string_view text, std::string_view word) {
    const auto parsed = parse_codec(text);
    if (parsed.ok()) {
        return false;
    }
    INFO(parsed.status().message);
    CHECK((parsed.status().code == kvc::Code::argument || parsed.status().code == kvc::Code::unsupported));
    return parsed.status().message.find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("parse: the presets are those of docs/FORMATS.md, in its order, and mean what it says") {
    const auto& documented = kvc_reference::documented_presets();
    REQUIRE(documented.size() >= 9);
    REQUIRE(size_t(kvc::preset_count()) == documented.size());
    for (int i = 0; i < kvc::preset_count(); ++i) {
        CHECK(kvc::preset_name(i) == documented[size_t(i)].name);
        CHECK(canonical(documented[size_t(i)].name) == documented[size_t(i)].codec);
    }
    CHECK(kvc::preset_name(-1) == nullptr);
    CHECK(kvc::preset_name(kvc::preset_count()) == nullptr);
}

TEST_CASE("parse: the names that are promised stay, and a preset's words are understood") {
    for (const char* name : {"fp16", "bf16", "int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2"}) {
        CHECK_MESSAGE(parse_codec(name).ok(), name);
    }
    const auto k3v2 = parse_codec("k3v2");
    REQUIRE(k3v2.ok());
    CHECK(k3v2->k.type == kvc::CodeType::int3);
    CHECK(k3v2->k.m8);
    CHECK(!k3v2->k.symmetric);
    CHECK(k3v2->v.type == kvc::CodeType::int2);
    CHECK(k3v2->v.symmetric);
    CHECK(k3v2->v.fit == kvc::Fit::least_squares);
    CHECK(k3v2->v.group == 0);
}

TEST_CASE("parse: every legal codec round-trips through its canonical string") {
    int legal = 0;
    for (const char* type : {"f16", "int8", "int4", "int3", "int2"}) {
        for (const char* axis : {"", ".ch", ".tok"}) {
            for (const char* group : {"", ".g16", ".g32", ".g64", ".g128"}) {
                for (const char* options : {"", ".rot", ".sym", ".ls", ".m8", ".rot.ls", ".rot.sym", ".rot.m8", ".m8.clip0.9",
                                            ".clip0.875", ".sym.clip0.5", ".rot.sym.clip0.95"}) {
                    const std::string part = std::string(type) + axis + group + options;
                    for (const std::string& text : {"k=" + part + ",v=int4.tok", "v=" + part + ",k=f16,sinks=64,window=1048576"}) {
                        const auto parsed = parse_codec(text);
                        if (!parsed.ok()) {
                            CHECK_MESSAGE(!parsed.status().message.empty(), text);
                            continue;
                        }
                        ++legal;
                        const std::string once = kvc::format_codec(*parsed);
                        const auto again = parse_codec(once);
                        REQUIRE_MESSAGE(again.ok(), once);
                        CHECK_MESSAGE(*again == *parsed, once);
                        CHECK(kvc::format_codec(*again) == once);
                    }
                }
            }
        }
    }
    CHECK(legal > 400);
}

TEST_CASE("parse: order of words does not matter, defaults are filled in") {
    CHECK(canonical("k=int4.m8.g32.ch,v=int4.sym.rot.tok") == canonical("int4"));
    CHECK(canonical("v=int8.tok,k=int8.ch") == "k=int8.ch.g32,v=int8.tok,window=128,sinks=4");
    CHECK(canonical("k=f16,v=f16") == "k=f16,v=f16,window=0,sinks=0");
    CHECK(canonical("k=f16,v=int4.tok,sinks=0") == "k=f16,v=int4.tok,window=128,sinks=0");
    CHECK(canonical("int4,window=64") == "k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=64,sinks=4");
    CHECK(canonical("int4,v=int2.tok.rot.ls") == "k=int4.ch.g32.m8,v=int2.tok.rot.ls,window=128,sinks=4");
    CHECK(canonical("k=int4.ch.clip0.950,v=int4.tok") == "k=int4.ch.g32.clip0.95,v=int4.tok,window=128,sinks=4");
}

TEST_CASE("parse: what is no codec is refused, and the message names the word") {
    CHECK(refused("", "empty"));
    CHECK(refused("int9", "int9"));
    CHECK(refused("INT4", "unknown field"));
    CHECK(refused("int4,", "empty"));
    CHECK(refused("int4,,window=3", "unknown field"));
    CHECK(refused("k=int4.ch", "no v="));
    CHECK(refused("v=int4.tok", "no k="));
    CHECK(refused("k=int4.ch,v=int4.tok,k=int8.ch", "twice"));
    CHECK(refused("k=int4,v=int4.tok", "needs ch"));
    CHECK(refused("k=int4.ch.,v=int4.tok", "dot"));
    CHECK(refused("k=int4.ch.tok,v=int4.tok", "'tok'"));
    CHECK(refused("k=int4.ch.g32.g64,v=int4.tok", "'g64'"));
    CHECK(refused("k=int4.ch.g0,v=int4.tok", "'g0'"));
    CHECK(refused("k=int4.ch.g032,v=int4.tok", "'g032'"));
    CHECK(refused("k=int4.ch.gx,v=int4.tok", "'gx'"));
    CHECK(refused("k=int4.ch.fast,v=int4.tok", "'fast'"));
    CHECK(refused("k=int7.ch,v=int4.tok", "'int7'"));
    CHECK(refused("k=int4.ch.clip0.,v=int4.tok", "clip"));
    CHECK(refused("k=int4.ch.clip0.9999,v=int4.tok", "clip"));
    CHECK(refused("k=int4.ch.clip0.4,v=int4.tok", "clip"));
    CHECK(refused("k=int4.ch,v=int4.tok,window=-1", "window=-1"));
    CHECK(refused("k=int4.ch,v=int4.tok,window=", "window="));
    CHECK(refused("k=int4.ch,v=int4.tok,window=1048577", "1048577"));
    CHECK(refused("k=int4.ch,v=int4.tok,sinks=65", "sinks=65"));
    CHECK(refused("k=int4.ch,v=int4.tok,sinks=99999999999999999999", "number"));
    CHECK(refused("k=int4.ch, v=int4.tok", "' v=int4.tok'"));
}

TEST_CASE("parse: options that contradict each other are refused with the reason") {
    CHECK(refused("k=int4.ch.g16,v=int4.tok", "g32 or g64"));
    CHECK(refused("k=int4.ch.g128,v=int4.tok", "g32 or g64"));
    CHECK(refused("k=int4.tok.g48,v=int4.tok", "48"));
    CHECK(refused("k=int4.tok.m8,v=int4.tok", "m8"));
    CHECK(refused("k=int4.ch.m8.sym,v=int4.tok", "m8"));
    CHECK(refused("k=int4.ch.ls,v=int4.tok", "ls"));
    CHECK(refused("k=int4.tok.ls.clip0.9,v=int4.tok", "ls"));
    CHECK(refused("k=int4.tok.ls.sym,v=int4.tok", "'sym'"));
    CHECK(refused("k=f16.rot,v=f16", "no options"));
    CHECK(refused("k=bf16,v=int4.tok", "bf16"));
    CHECK(refused("k=f16,v=bf16", "bf16"));
}

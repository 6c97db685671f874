// Codecs of every kind of pages that there are CUDA kernels for (kernels/cuda/page_kind.h).
#pragma once
#include <initializer_list>
#include <vector>

namespace kvc_test {

// Every preset, and keys in groups of 64 tokens under 8-bit and under fp16 scales.
constexpr std::initializer_list<const char*> main_codecs = {"int8",
                                                            "int4",
                                                            "int3",
                                                            "k3v2",
                                                            "int2",
                                                            "kivi4",
                                                            "kivi2",
                                                            "fp16",
                                                            "bf16",
                                                            "k=int4.ch.g64.m8,v=int4.tok.rot.sym",
                                                            "k=int2.ch.g64,v=int2.tok.ls"};

// Those, all other kinds, and the other ways to find scales, with and without rotation.
inline const std::vector<const char*>& all_codecs() {
    static const std::vector<const char*> codecs = [] {
        std::vector<const char*> all = main_codecs;
        all.insert(all.end(),
                   {"k=int8.ch.g32.m8.clip0.95,v=int4.tok.rot.ls", "k=int4.ch.g32.m8,v=int2.tok.ls", "k=int8.ch.g32.m8,v=int8.tok.ls",
                    "k=int3.ch.g32.m8,v=int3.tok.sym", "k=int4.ch.g32,v=int4.tok.g32.rot.clip0.9",
                    "k=int2.ch.g64.m8.clip0.9,v=int2.tok.ls", "k=int4.ch.g64,v=int4.tok.ls", "k=int2.ch.g64,v=int2.tok.rot.sym"});
        return all;
    }();
    return codecs;
}

}  // namespace kvc_test

#include "tests/model/create_line.h"

#include <algorithm>
#include <kvc.h>

namespace kvc_scripts {

using kvc_reference::Choices;

const std::vector<std::string>& listed_codecs() {
    static const std::vector<std::string> all = [] {
        std::vector<std::string> codecs = {
            "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=5,sinks=2",
            "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=0,sinks=0",
            "k=int4.ch.g64.m8,v=int4.tok.rot.sym,window=16,sinks=4",
            "k=int3.ch.g32.m8,v=int3.tok.rot.ls,window=5,sinks=4",
            "k=int2.ch.g32.m8.clip0.9,v=int2.tok.rot.ls,window=1,sinks=1",
            "k=int4.ch.g32,v=int4.tok.g32,window=32,sinks=0",
            "k=int2.ch.g32,v=int2.tok.g32,window=5,sinks=7",
            "k=int8.tok.rot.sym,v=int8.tok,window=20,sinks=4",
            "k=int4.tok.rot.ls,v=int4.tok.g16,window=5,sinks=4",
            "k=f16,v=int4.tok.rot.ls,window=5,sinks=4",
            "k=int4.ch.g32.m8,v=f16,window=5,sinks=4",
            "k=f16,v=f16,window=5,sinks=7",
            "k=bf16,v=bf16,window=0,sinks=4",
        };
        for (int64_t i = 0; i < kvc_preset_count(); ++i)
            codecs.emplace_back(kvc_preset_name(i));
        return codecs;
    }();
    return all;
}

const std::vector<std::string>& listed_ladders() {
    static const std::vector<std::string> all = {
        "int8/int4",
        "int8/int4/int2",
        "fp16/int8/int4/int2",
        "int8/int4@64/int2@256",
        "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=5,sinks=2/int4/int3/int2",
        "k=int8.tok.rot.sym,v=int8.tok.rot.sym,window=16,sinks=0/k=int4.tok.rot.ls,v=int4.tok.rot.ls@100",
        "k=f16,v=f16,window=10,sinks=4/int4@128",
    };
    return all;
}

const std::vector<std::string>& listed_policies() {
    static const std::vector<std::string> all = {
        "streaming:4+64",
        "streaming:96",
        "streaming:40%",
        "streaming:96,sinks=0",
        "streaming:80,every=commit,merge=values",
        "h2o:96",
        "h2o:40%",
        "h2o:64KiB",
        "h2o:64,mass=observed",
        "h2o:64,mass=observed,every=never",
        "h2o:80,mass=page",
        "h2o:96,sinks=0,recent=0",
        "h2o:96,every=32",
        "h2o:96,every=commit",
        "h2o:96,every=never",
        "h2o:96,layers=pyramid",
        "h2o:96,layers=2/1",
        "h2o:96,heads=ada",
        "h2o:96,heads=ada,floor=50%",
        "h2o:96,merge=keys+values",
        "h2o:96,merge=values,merge_threshold=none",
        "mean_attention:96",
        "mean_attention:96,merge=keys+values,merge_bias=off",
        "mean_attention:30%,recent=25%",
        "best:96",
        "tova:96",
        "tova:80,every=commit",
        "tova:96,observe=4",
        "snapkv:96",
        "snapkv:96,pool=max5",
        "snapkv:96,every=commit",
        "snapkv:80,every=never",
        "snapkv:96,pool=none,observe=16",
        "key_norm:96",
        "key_norm:24KiB",
        "key_norm:96,merge=values,merge_layers=0..0",
        "expected_attention:96",
        "expected_attention:96,every=commit",
        "key_diversity:96",
        "key_diversity:50%",
        "cluster:96",
        "cluster:50%,merge=values",
        "given:96,every=never,recent=16",
        "given:64,every=never",
    };
    return all;
}

namespace {

// Odd shapes where the codec may refuse them, since that is an answer, too.
int64_t dim(Choices& pick) { return pick.one_in(8) ? pick.of<int64_t>({16, 48, 80, 96, 128, 256}) : pick.of<int64_t>({32, 64}); }

void set_rope(Operation& made, Choices& pick) {
    made.set("rope_theta", pick.of<std::string>({"10000", "500000", "10"}));
    const bool before = pick.one_in(2);
    if (before) made.set("keys", "before");
    if (!before || pick.one_in(2)) made.set("positions", "in_cache");
    if (pick.one_in(3)) made.set("pairs", "interleaved");
    if (pick.one_in(3)) made.set("rope_dims", pick.of<int64_t>({2, 16, 32}));
}

void set_arena(Operation& made, Choices& pick) {
    if (pick.one_in(6))
        made.set("arena_tokens", pick.between(100, 600)).set("arena_sequences", pick.between(1, 2));
    else if (pick.one_in(8))
        made.set("arena_bytes", pick.of<int64_t>({1 << 18, 1 << 20, 1 << 22}));
    else
        made.set("growth", 1).set("arena_tokens", 512);
}

// What kvc_create must refuse, with the reason in its message.
void spoil(Operation& made, Choices& pick) {
    const int64_t choice = pick.below(8);
    if (choice == 0)
        made.set("codec", pick.of<std::string>({"int5", "k=int4.ch.g32.m8", "int4/int8", "int8/kivi4", "bf16/int4", "@nowhere"}));
    if (choice == 1)
        made.set("policy",
                 pick.of<std::string>({"h2o", "h2o:0", "given:96", "oracle:96", "tova:96,pool=avg2", "streaming:96,merge=values"}));
    if (choice == 2) made.set("k_dim", pick.of<int64_t>({-16, 8, 33, 272}));
    if (choice == 3) made.set("q_heads", made.number("kv_heads", 1) * 17);
    if (choice == 4) made.set("layers", pick.of<int64_t>({-1, 4097}));
    if (choice == 5) made.set("arena_tokens", -1);
    if (choice == 6) made.set("spare_pages", -1);
    if (choice == 7) made.set("positions", "in_cache").set("rope_theta", "0");
}

}  // namespace

Script create_lines(uint64_t seed, Choices& pick) {
    Script lines;
    Operation made;
    made.verb = "create";
    const int64_t layers = pick.between(1, 2), kv_heads = pick.between(1, 2);
    made.set("layers", layers).set("kv_heads", kv_heads).set("q_heads", kv_heads * pick.of<int64_t>({1, 1, 2, 2, 3, 8}));
    made.set("k_dim", dim(pick));
    if (pick.one_in(3)) made.set("v_dim", dim(pick));
    const std::vector<std::string>&codecs = listed_codecs(), &ladders = listed_ladders(), &policies = listed_policies();
    made.set("codec", seed % 4 == 0 ? ladders[seed / 4 % ladders.size()] : codecs[seed % codecs.size()]);
    if (seed % 2 == 1) made.set("policy", policies[seed / 2 % policies.size()]);
    if (made.word("policy").find('%') != std::string::npos && !pick.one_in(3)) made.set("context_tokens", pick.between(400, 600));
    if (pick.one_in(8)) made.set("spare_pages", pick.between(1, 2));
    if (pick.one_in(8)) made.set("saturate", 1);
    if (pick.one_in(8)) made.set("sliding_window", pick.of<int64_t>({1, 17, 64, 130}));
    if (pick.one_in(5)) set_rope(made, pick);
    set_arena(made, pick);
    if (pick.one_in(5)) {
        Operation special;
        special.verb = "layer", special.names = {std::to_string(layers - 1)};
        if (pick.one_in(2)) special.set("codec", pick.of(codecs));
        if (pick.one_in(2)) special.set("kv_heads", 1).set("q_heads", pick.of<int64_t>({1, 4}));
        if (pick.one_in(3)) special.set("v_dim", dim(pick));
        if (pick.one_in(3)) special.set("sliding_window", pick.of<int64_t>({-1, 33, 100}));
        if (!special.arguments.empty()) lines.push_back(special);
    }
    if (pick.one_in(40)) spoil(made, pick);
    lines.push_back(made);
    return lines;
}

}  // namespace kvc_scripts

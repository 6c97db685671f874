// Law: visibility per query and attention's formula, over codecs, head dims, head ratios, lengths and targets, against the model.
#include <kvc.h>

#include "tests/laws/session.h"
#include "tests/model/model_run.h"

using namespace kvc_laws;

namespace {

// Runs a script on every target beside the reference model.
void holds(const std::string& script) {
    const std::string first = script.substr(0, script.find('\n'));
    if (!is_served(first.substr(first.find(' ')))) return;
    for (const std::string& target : targets()) {
        const kvc_scripts::Script lines = kvc_scripts::parse(script);
        const kvc_scripts::Comparison result = kvc_scripts::compare(lines, {target, 0});
        CHECK_MESSAGE(result.fault.empty(), target << ", line " << result.line + 1 << ": " << result.fault << "\n" << script);
    }
}

// One layer: a prompt of so many tokens, then single tokens.
std::string grow(const std::string& create, int64_t prompt, int64_t singles, const std::string& attend) {
    std::string script = "create growth=1 " + create + "\nseq a data=2 prompt_length=" + std::to_string(prompt) + "\n";
    const auto step = [&](const std::string& name, int64_t tokens) {
        script += "begin " + name + " a:" + std::to_string(tokens) + "\nappend " + name + " seed=1\nattend " + name + " seed=2 " +
                  attend + "\ncommit " + name + "\n";
    };
    if (prompt > 0) step("p", prompt);
    for (int64_t i = 0; i < singles; ++i)
        step("s" + std::to_string(i), 1);
    return script + "read a part=keys\nread a part=values\n";
}

}  // namespace

TEST_CASE("visibility: a query sees sinks and the newest W to W + 63 tokens in 16 bits, the others as codes") {
    for (int64_t window : {0, 1, 63, 64, 65})
        for (int64_t sinks : {0, 4}) {
            // Single tokens over the place where a page turns into codes: f grows at S + W + 64.
            const int64_t turn = sinks + window + 64;
            holds(grow("k_dim=32 q_heads=2 codec=" + short_window("int2", window, sinks), turn - 3, 6, "kind=sharp"));
        }
}

TEST_CASE("attention: every preset and mixed pairs of widths") {
    std::vector<std::string> codecs = presets();
    for (const char* pair :
         {"k=int8.ch.g32.m8,v=int4.tok.rot.ls,window=20,sinks=2", "k=int4.ch.g32.m8,v=int2.tok.rot.ls,window=20,sinks=2",
          "k=int3.ch.g32.m8,v=int2.tok.rot.ls,window=20,sinks=2", "k=int3.ch.g32.m8,v=int3.tok.rot.ls,window=20,sinks=2",
          "k=int4.tok.rot.ls,v=f16,window=0,sinks=0", "k=int8.tok.rot.sym,v=int4.tok.g16,window=1,sinks=1",
          "k=int4.ch.g64.sym,v=int8.tok,window=2,sinks=0"})
        codecs.emplace_back(pair);
    for (const std::string& codec : codecs)
        holds(grow("kv_heads=2 q_heads=4 k_dim=64 codec=" + codec, 260, 2, "kind=sharp"));
}

TEST_CASE("attention: head dims 16 to 256, keys and values of different ones") {
    for (const char* dims : {"k_dim=16", "k_dim=64", "k_dim=80", "k_dim=96", "k_dim=112", "k_dim=128", "k_dim=256",
                             "k_dim=192 v_dim=128", "k_dim=64 v_dim=112", "k_dim=80 v_dim=256"})
        for (const char* preset : {"int8", "int4", "k3v2", "fp16"})
            holds(grow(std::string(dims) + " q_heads=2 codec=" + short_window(preset, 10, 2), 100, 1, ""));
}

TEST_CASE("attention: 1 to 16 query heads per kv head") {
    for (int group : {1, 2, 3, 4, 5, 6, 7, 8, 12, 16})
        for (const char* preset : {"int4", "int2"})
            holds(
                grow("kv_heads=2 k_dim=64 q_heads=" + std::to_string(2 * group) + " codec=" + short_window(preset, 10, 2), 90, 1, ""));
}

TEST_CASE("attention: lengths around pages and windows") {
    for (int64_t tokens : {1, 2, 63, 64, 65, 127, 128, 129, 190, 191, 192, 193, 194, 195, 196, 197, 260, 520})
        for (const char* preset : {"int4", "kivi2"})
            holds(grow(std::string("k_dim=32 q_heads=2 codec=") + preset, tokens, 2, ""));
}

TEST_CASE("attention: scale, soft cap, sliding window, causal offset") {
    const std::string create = "kv_heads=2 q_heads=4 k_dim=64 codec=" + short_window("int4", 10, 3);
    for (const char* options :
         {"scale=0.5", "scale=-0.25", "soft_cap=2 kind=sharp", "soft_cap=50 scale=1 kind=sharp", "sliding_window=1",
          "sliding_window=64", "sliding_window=70 soft_cap=3", "causal_offset=-1", "causal_offset=-64", "causal_offset=-1000",
          "causal_offset=-5 sliding_window=4", "causal_offset=-3 sliding_window=6"})
        holds(grow(create, 150, 2, options));
}

TEST_CASE("attention: a layer's sliding window holds and attends to no more than it needs") {
    for (int64_t window : {1, 33, 64, 100, 130}) {
        const std::string create = " sliding_window=" + std::to_string(window) + " k_dim=32 codec=" + short_window("int4", 10, 3);
        holds(grow(create, 200, 3, ""));
        Session session(create);
        session.ok("seq a");
        session.feed("a", 1000, 100);
        CHECK(session.number("live a") <= 3 + window + 63 + 64);
    }
}

TEST_CASE("attention: a query that sees nothing gives out 0 and lse -infinity, in all types") {
    for (const char* type : {"f32", "f16", "bf16"}) {
        Session session(" q_heads=2 k_dim=32 codec=int4");
        session.ok("seq a");
        session.ok(std::string("begin t a:5 out=") + type);
        session.ok("append t seed=1");
        const auto outcome = session.ok("attend t seed=1 causal_offset=-1");
        for (size_t i = 0; i < 2 * 32; ++i)
            CHECK(outcome.out[i] == 0.0f);
        CHECK(outcome.lse[0] == -__builtin_inff());
        CHECK(outcome.lse[2] > -100.0f);  // the second token sees the first
    }
}

TEST_CASE("attention: learned sink logits enter once, partial results leave them out") {
    for (const char* preset : {"int4", "fp16"}) {
        const std::string create = std::string("kv_heads=2 q_heads=4 k_dim=64 codec=") + short_window(preset, 10, 3);
        const std::string head = "create growth=1 " + create + "\nsink_logits seed=5\nseq a data=2\nbegin t a:150\nappend t seed=1\n";
        holds(head +
              "attend t seed=2\nattend t seed=2 partial=1\nattend t seed=2 causal_offset=-200\nattend t seed=2 soft_cap=1\ncommit t\n" +
              "sink_logits seed=5 n=0\nbegin u a:1\nappend u seed=1\nattend u seed=2\ncommit u\n");
    }
}

TEST_CASE("attention: element types and strides of the caller") {
    for (const char* types :
         {"kv=f16 q=bf16 out=f16", "kv=bf16 q=f32 out=bf16", "kv=f32 q=f16 out=f32 padding=7", "kv=f16 q=f16 out=f16 padding=3"})
        for (const char* preset : {"int4", "bf16"})
            holds(std::string("create growth=1 kv_heads=2 q_heads=4 k_dim=64 codec=") + short_window(preset, 5, 3) +
                  "\nseq a\nbegin t a:100 " + types + "\nappend t seed=1\nattend t seed=2\ncommit t\nread a part=values\n");
}

TEST_CASE("attention: extreme, tiny and constant data stay within the bound") {
    for (const char* kind : {"extreme", "tiny", "constant", "zero", "outlier"})
        for (const char* preset : {"fp16", "int8", "int4", "int2", "kivi4"})
            holds(std::string("create saturate=1 growth=1 q_heads=2 k_dim=64 codec=") + short_window(preset, 0, 3) +
                  "\nseq a\nbegin t a:140\nappend t seed=1 kind=" + kind +
                  "\nattend t seed=2\nattend t seed=2 kind=sharp soft_cap=5\ncommit t\nread a\n");
}

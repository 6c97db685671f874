// Steps that are captured in CUDA graphs of the machine's own runtime and replayed, beside ordinary steps: the same bits.
#include <doctest/doctest.h>

#include "tests/cuda/graph_side.h"

using namespace kvc_graphs;

namespace {

const std::string int4 = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3";

}  // namespace

TEST_CASE("gpu: replays give and store what ordinary steps do, every kind of page, across page boundaries") {
    for (const std::string& codec :
         {int4, std::string("int8"), std::string("int3"), std::string("k3v2"), std::string("int2"), std::string("kivi4"),
          std::string("kivi2"), std::string("fp16"), std::string("bf16"), std::string("k=int2.ch.g64,v=int2.tok.ls")}) {
        for (const int64_t k_dim : {64, 128}) {
            CAPTURE(codec);
            CAPTURE(k_dim);
            Setup setup = {.codec = codec, .k_dim = k_dim, .counts = {1, 1, 1, 1, 1}, .max_tokens = 5000};
            Pair pair(setup, {0, 1, 62, 66, 4190});
            pair.steps(80);
            pair.check_stored();
        }
    }
}

TEST_CASE("gpu: replays of several positions a step, of parts, of forks and of other sequences") {
    Pair pair({.codec = int4, .counts = {4, 0, 70}, .partial_commit = true}, {60, 5, 0});
    for (const auto& [a, c] : {std::pair{4, 70}, {1, 3}, {0, 66}, {3, 0}}) {
        pair.step({a, 0, c});
    }
    for (Side* const side : {&pair.ordinary, &pair.graphed}) {
        side->fork(1, side->seqs[0], 9);
        side->add(0, 200, 12);
    }
    pair.step();
    pair.check_stored();
}

TEST_CASE("gpu: replays with policies, ladders, sliding windows, sinks of logits and keys before RoPE") {
    for (const Setup& setup : {
             Setup{.codec = int4, .sliding_window = 40, .counts = {1, 2}},
             Setup{.codec = int4, .counts = {1, 2}, .sink_logits = true, .spare_pages = 1},
             Setup{.codec = int4, .counts = {1, 2}, .keys_before_rope = true, .in_cache = true},
             Setup{.codec = "int8/int4@64/int2@200", .counts = {1, 1}, .max_tokens = 700},
             Setup{.codec = int4, .policy = "streaming:3+70", .counts = {1, 1}},
             Setup{.codec = int4, .policy = "key_norm:80,every=16", .counts = {1, 1}},
         }) {
        CAPTURE(setup.codec);
        CAPTURE(setup.policy);
        const bool ladder = setup.max_tokens == 700;
        Pair pair(setup, {ladder ? 509 : 125, 61});
        pair.steps(40);
        pair.check_stored();
    }
}

TEST_CASE("gpu: many replays in a row, as many as slots are free, without waiting in between") {
    Side side({.codec = int4, .layers = 4, .counts = {1, 1}, .max_tokens = 5000, .slots = 8});
    side.add(0, 70, 1), side.add(1, 4000, 2);
    side.step();  // loads the kernels
    side.create_graph();
    side.capture();
    kvc_error error = {sizeof error, 0, ""};
    const kvc_step_options o = side.options(true);
    int64_t taken = 0, again = 0;
    while (taken < 300) {
        kvc_step* const step = kvc_step_begin(side.cache, side.seqs.data(), side.setup.counts.data(), 2, nullptr, 0, &o, &error);
        if (!step) {
            REQUIRE(error.status == KVC_E_AGAIN);
            again++;
            continue;
        }
        side.launch();
        side.commit(step);
        taken++;
    }
    require(kvc_synchronize(side.cache, &error), error);
    MESSAGE("told to come again: ", again);
    int64_t length = 0;
    require(kvc_seq_length(side.cache, side.seqs[1], &length, &error), error);
    CHECK(length == 4301);
}

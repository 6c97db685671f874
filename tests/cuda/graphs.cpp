// Steps that are captured once and replayed, on the emulated device: the same bits as ordinary steps.
#include "tests/cuda/emulated_device.h"
#include "tests/cuda/graph_side.h"

using namespace kvc_graphs;
using kvc::simt::FakeDevice;
using kvc_test::Order;
using kvc_test::used_device;

namespace {

Setup on_used(Setup setup) {
    setup.ordinal = used_device;
    return setup;
}

}  // namespace

TEST_CASE("cuda graphs: replays give and store what ordinary steps do, across page boundaries, every preset") {
    for (const char* const codec : {"k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3", "int8", "k3v2", "kivi2", "fp16",
                                    "k=bf16,v=bf16,window=0,sinks=0", "k=int4.ch.g64.m8,v=int4.tok.rot.sym,window=5,sinks=3"}) {
        for (const uint64_t seed : {0, 3}) {
            CAPTURE(codec);
            CAPTURE(seed);
            const Order order(seed);
            Pair pair(on_used({.codec = codec, .counts = {1, 1, 1, 1, 1}}), {0, 1, 62, 66, 126});
            pair.steps(5);
            pair.check_stored();
        }
    }
}

TEST_CASE("cuda graphs: a sequence grows from nothing through several pages") {
    const Order order(5);
    Pair pair(
        on_used(
            {.codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3", .layers = 1, .kv_heads = 1, .q_heads = 2, .counts = {1}}),
        {0});
    pair.steps(140);
    pair.check_stored();
}

TEST_CASE("cuda graphs: up to the last token that there is room for, where a row has come to its second split") {
    const Order order(6);
    const Setup setup = on_used({.codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3",
                                 .layers = 1,
                                 .kv_heads = 1,
                                 .q_heads = 2,
                                 .counts = {1, 3},
                                 .max_tokens = 4104});
    Pair pair(setup, {4096, 40});
    pair.steps(8);
    pair.check_stored();
    kvc_error error = {sizeof error, 0, ""};
    const kvc_step_options o = pair.graphed.options(true);
    CHECK(kvc_step_begin(pair.graphed.cache, pair.graphed.seqs.data(), setup.counts.data(), 2, nullptr, 0, &o, &error) == nullptr);
    CHECK(error.status == KVC_E_CAPTURE);
}

TEST_CASE("cuda graphs: ragged counts, several query heads for a kv head, several positions a step") {
    for (const char* const codec :
         {"k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3", "k=int2.ch.g32.m8,v=int2.tok.rot.ls,window=0,sinks=0",
          "k=int2.ch.g64,v=int2.tok.ls,window=5,sinks=3"}) {
        CAPTURE(codec);
        const Order order(11);
        Pair pair(on_used({.codec = codec, .kv_heads = 1, .q_heads = 4, .counts = {3, 0, 70, 1}, .max_tokens = 500}), {62, 5, 0, 190});
        pair.steps(5);
        pair.check_stored();
    }
}

TEST_CASE("cuda graphs: a part of the tokens is accepted") {
    const Order order(2);
    Pair pair(on_used({.codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3", .counts = {4, 4}, .partial_commit = true}),
              {60, 130});
    for (const auto& [a, b] : {std::pair{4, 0}, {1, 2}, {0, 4}, {3, 3}, {4, 4}, {0, 0}}) {
        pair.step({a, b});
    }
    pair.check_stored();
}

TEST_CASE("cuda graphs: other sequences than those captured, forks among them") {
    const Order order(7);
    Pair pair(on_used({.codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3", .counts = {1, 1}}), {70, 131});
    pair.steps(3);
    for (Side* const side : {&pair.ordinary, &pair.graphed}) {
        side->fork(1, side->seqs[0], 9);
    }
    pair.steps(2);
    for (Side* const side : {&pair.ordinary, &pair.graphed}) {
        side->add(0, 200, 12);
    }
    pair.steps(3);
    pair.check_stored();
}

TEST_CASE("cuda graphs: sliding windows, sinks of logits, keys before RoPE, ladders and policies") {
    const std::string int4 = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3";
    for (const Setup& setup : {
             Setup{.codec = int4, .sliding_window = 40, .counts = {1, 2}},
             Setup{.codec = int4, .counts = {1, 2}, .sink_logits = true, .spare_pages = 1},
             Setup{.codec = int4, .layers = 1, .counts = {1, 2}, .keys_before_rope = true, .in_cache = true},
             Setup{.codec = "int8/int4@64/int2@200", .layers = 1, .kv_heads = 1, .counts = {1, 1}, .max_tokens = 600},
             Setup{.codec = int4, .policy = "streaming:3+70", .counts = {1, 1}},
             Setup{.codec = int4, .policy = "key_norm:80,every=16", .layers = 1, .counts = {1, 1}},
             Setup{.codec = "fp16", .counts = {1, 1}, .dtype = KVC_F16},
         }) {
        CAPTURE(setup.codec);
        CAPTURE(setup.policy);
        CAPTURE(setup.sliding_window);
        const Order order(13);
        const bool ladder = setup.max_tokens == 600;
        Pair pair(on_used(setup), {ladder ? 509 : 125, 61});
        pair.steps(ladder ? 6 : 20);
        pair.check_stored();
    }
}

TEST_CASE("cuda graphs: in steady state nothing is allocated and nothing waits, and a replay is few calls") {
    const Order order(0);
    Side side(on_used({.layers = 3}));
    for (size_t b = 0; b < side.seqs.size(); b++) {
        side.add(b, 100, int64_t(b) + 1);
    }
    side.create_graph();
    side.capture();
    side.upload();
    const auto one = [&] {
        kvc_step* const step = side.begin(true);
        side.launch();
        side.commit(step);
    };
    for (int i = 0; i < 4; i++) {
        one();
    }
    kvc_error error = {sizeof error, 0, ""};
    require(kvc_synchronize(side.cache, &error), error);
    one();
    for (int i = 0; i < 50; i++) {
        const FakeDevice::Counts before = FakeDevice::get().counts();
        one();
        const FakeDevice::Counts after = FakeDevice::get().counts();
        CHECK(after.allocations == before.allocations);
        CHECK(after.waits == before.waits);
        CHECK(after.calls - before.calls <= 20);
    }
}

TEST_CASE("cuda graphs: a capture computes and publishes nothing, and asks for nothing that is forbidden") {
    const Order order(4);
    Side side(on_used({}));
    for (size_t b = 0; b < side.seqs.size(); b++) {
        side.add(b, 66, int64_t(b) + 1);
    }
    side.create_graph();
    kvc_error error = {sizeof error, 0, ""};
    require(kvc_synchronize(side.cache, &error), error);
    const Bytes stored = side.stored();
    const std::string stats = side.stats();
    const FakeDevice::Counts before = FakeDevice::get().counts();
    side.capture();
    side.capture();  // takes the place of the first
    const FakeDevice::Counts after = FakeDevice::get().counts();
    CHECK(after.forbidden == before.forbidden);
    CHECK(after.operations == before.operations);
    CHECK(after.allocations == before.allocations);
    CHECK(after.waits == before.waits);
    CHECK(side.stored() == stored);
    CHECK(side.stats() == stats);
    Side plain(side.setup);
    for (size_t b = 0; b < side.seqs.size(); b++) {
        plain.add(b, 66, int64_t(b) + 1);
    }
    plain.step();
    side.replay();
    CHECK(side.outputs() == plain.outputs());
}

TEST_CASE("cuda graphs: an aborted replay, launched or not, leaves no trace") {
    const std::string codec = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=5,sinks=3";
    for (const bool launched : {false, true}) {
        for (const uint64_t seed : {0, 6}) {
            CAPTURE(launched);
            const Order order(seed);
            Pair pair(on_used({.codec = codec, .counts = {1, 3}}), {71, 133});
            pair.steps(2);
            const Bytes stored = pair.graphed.stored();
            const std::string stats = pair.graphed.stats();
            for (int i = 0; i < 3; i++) {
                pair.graphed.upload();
                kvc_step* const step = pair.graphed.begin(true);
                if (launched) {
                    pair.graphed.launch();
                }
                kvc_error error = {sizeof error, 0, ""};
                require(kvc_step_abort(step, &error), error);
            }
            CHECK(pair.graphed.stored() == stored);
            CHECK(pair.graphed.stats().substr(0, stats.find(", quantized")) == stats.substr(0, stats.find(", quantized")));
            pair.steps(4);
            CHECK(pair.graphed.stored() == pair.ordinary.stored());
        }
    }
}

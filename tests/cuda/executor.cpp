// The host side of the CUDA backend over the emulated runtime: what an executor does is, bit for bit, what the table does job by job,
// whatever the order in which streams come to their work.
#include <doctest/doctest.h>
#include <string>

#include "kernels/cuda/runtime.h"
#include "kernels/simt/table.h"
#include "tests/cuda/device_rig.h"
#include "tests/cuda/emulated_device.h"

using namespace kvc_test;
using kvc::simt::FakeDevice;
using kvc::simt::LaneOrder;

namespace {

kvc::cuda::Stream new_stream() {
    const kvc::cuda::Selection selection(used_device);
    const auto stream = kvc::cuda::runtime::create_stream();
    REQUIRE(stream.ok());
    return *stream;
}

void destroy(kvc::cuda::Stream stream) {
    const kvc::cuda::Selection selection(used_device);
    kvc::cuda::runtime::destroy_stream(stream);
}

void run_stream(Rig& rig, std::initializer_list<int64_t> steps, void* stream = nullptr) {
    for (const int64_t tokens : steps) {
        INFO("step of ", tokens);
        rig.plan(tokens);
        const kvc::Status status = rig.run(stream);
        REQUIRE_MESSAGE(status.ok(), status.message);
        REQUIRE(rig.fetch().ok());
        rig.check_outputs();
    }
    rig.check_records();
}

}  // namespace

namespace kvc_test {

const Witness& witness() {
    static const Witness table = {*kvc::simt::cuda_table(), 0};
    return table;
}

}  // namespace kvc_test

TEST_CASE("executor: equals the table job by job, with buffers of the host and of the device, in any order of work and lanes") {
    for (const char* codec : {"int4", "fp16"}) {
        for (const bool device_buffers : {false, true}) {
            for (const uint64_t seed : {0, 1, 2}) {
                INFO(std::string(codec), device_buffers ? ", device buffers" : ", host buffers", ", seed ", seed);
                const Order order(seed, seed == 2 ? LaneOrder::random : kvc::simt::lane_order_of_run());
                Rig rig(open(), {.codec = codec, .device_buffers = device_buffers});
                run_stream(rig, {60, 64, 64, 1, 1, 30});
            }
        }
    }
}

TEST_CASE("executor: head dims of keys and values differ, rows of out lie apart, sink logits and soft caps arrive") {
    const Order order(7);
    for (const bool device_buffers : {false, true}) {
        Rig rig(open(),
                {.k_dim = 96, .heads = 1, .group = 3, .device_buffers = device_buffers, .soft_cap = 20, .gap = 5, .sink_logits = true});
        run_stream(rig, {50, 63, 64, 1});
    }
}

TEST_CASE("executor: prompt-class items and attention mass, counters included") {
    for (const char* codec : {"int4", "kivi2", "bf16", "k=int2.ch.g64,v=int2.tok.ls"}) {
        for (const uint64_t seed : {0, 9}) {
            INFO(std::string(codec), ", seed ", seed);
            const Order order(seed);
            Rig rig(open(), {.codec = codec, .device_buffers = seed == 9, .prompt_class = true, .mass = 1});
            run_stream(rig, {60, 64, 64, 1});
        }
    }
}

TEST_CASE("executor: mass of pages, of both classes, and of keys before RoPE") {
    for (const char* codec : {"int4", "kivi2", "bf16", "k=int2.ch.g64,v=int2.tok.ls"}) {
        for (const uint64_t seed : {0, 9}) {
            for (const bool prompt_class : {false, true}) {
                INFO(std::string(codec), ", seed ", seed, prompt_class ? ", prompt" : ", decode");
                const Order order(seed);
                Rig rig(open(), {.codec = codec,
                                 .device_buffers = seed == 9,
                                 .prompt_class = prompt_class,
                                 .mass = 2,
                                 .mass_of_pages = true,
                                 .keys_before_rope = prompt_class && seed == 9});
                run_stream(rig, {60, 64, 64, 1, 30});
            }
        }
    }
}

TEST_CASE("executor: mass where pages were dropped is that of the pages that are left, and no more comes to the host") {
    for (const bool of_pages : {false, true}) {
        for (const bool prompt_class : {false, true}) {
            for (const bool counts : {false, true}) {
                INFO("of ", of_pages ? "pages" : "tokens", prompt_class ? ", prompt" : ", decode", counts ? ", counts" : "");
                const Order order(4);
                int64_t bytes[2];
                for (const bool dropped : {false, true}) {
                    Rig rig(open(), {.sequences = 1,
                                     .device_buffers = true,
                                     .prompt_class = prompt_class,
                                     .mass = 1,
                                     .mass_of_pages = of_pages,
                                     .counts = counts,
                                     .dropped = dropped});
                    run_stream(rig, {64, 64, 64, 64, 64, 64, 64, 64});
                    rig.plan(1);
                    const int64_t before = FakeDevice::get().counts().bytes_out;
                    REQUIRE(rig.run().ok());
                    bytes[dropped] = FakeDevice::get().counts().bytes_out - before;
                    REQUIRE(rig.fetch().ok());
                    rig.check_outputs();
                }
                // Two of six coded pages, of two heads.
                CHECK(bytes[0] - bytes[1] == 2 * 2 * 8 * (of_pages ? 1 : page_tokens));
            }
        }
    }
}

TEST_CASE("executor: mass of pages is added once, where its block fills up, too") {
    const Order order(3);
    for (const int64_t calls : {1, 1000}) {
        Rig rig(open(), {.sequences = 1, .heads = 1, .group = 1, .device_buffers = true, .mass = calls, .mass_of_pages = true});
        run_stream(rig, {60, 64});
    }
}

TEST_CASE("executor: attention mass waits for nothing until its block is full, and is added once") {
    const Order order(3);
    for (const int64_t calls : {1, 50, 1000}) {  // the last fill the block, and lap the marks of the ring
        INFO(calls, " calls");
        Rig rig(open(), {.sequences = 1, .heads = 1, .group = 1, .device_buffers = true, .mass = calls});
        run_stream(rig, {60});
        rig.plan(64);
        const int64_t before = FakeDevice::get().counts().waits;
        REQUIRE(rig.run().ok());
        const int64_t waits = FakeDevice::get().counts().waits - before;
        if (calls < 1000) {
            CHECK(waits == 1);  // the synchronize
        }
        REQUIRE(rig.fetch().ok());
        rig.check_outputs();
    }
}

TEST_CASE("executor: keys before RoPE, tokens that stand for several, and their mass") {
    for (const char* codec : {"int4", "bf16"}) {
        for (const uint64_t seed : {0, 5}) {
            for (const bool turned : {false, true}) {
                INFO(std::string(codec), ", seed ", seed, turned ? ", keys before RoPE" : "");
                const Order order(seed);
                Rig rig(open(), {.codec = codec,
                                 .device_buffers = seed == 5,
                                 .prompt_class = true,
                                 .mass = 1,
                                 .keys_before_rope = turned,
                                 .counts = true});
                run_stream(rig, {60, 64, 64, 1});
            }
        }
    }
}

TEST_CASE("executor: a hundred steps lap the rings, and allocate nothing once they have begun") {
    const Order order(11);
    Rig rig(open(), {.codec = "fp16", .sequences = 8, .heads = 8, .group = 1});
    run_stream(rig, {1, 1});
    const FakeDevice::Counts before = FakeDevice::get().counts();
    for (int i = 0; i < 100; i++) {
        rig.plan(1);
        REQUIRE(rig.run().ok());
        rig.check_outputs();
    }
    CHECK(FakeDevice::get().counts().allocations - before.allocations <= 64 * 2 / 3 + 4);  // slabs of two new pages alone
    rig.check_records();
}

TEST_CASE("executor: sixteen steps are queued and lap the rings before anything is waited for") {
    for (uint64_t seed = 1; seed <= 2; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        const auto stream = new_stream();
        {
            Rig rig(open(), {.codec = "fp16", .sequences = 16, .heads = 16, .group = 1, .device_buffers = true});
            for (int i = 0; i < 16; i++) {
                rig.plan(1);
                REQUIRE(rig.run(stream).ok());
            }
            REQUIRE(rig.fetch().ok());
            rig.check_outputs();
            rig.check_records();
        }
        destroy(stream);
    }
}

TEST_CASE("executor: with device buffers nothing waits from begin to the end of a step") {
    const Order order(3);
    Rig rig(open(), {.device_buffers = true});
    rig.plan(40);
    const FakeDevice::Counts before = FakeDevice::get().counts();
    REQUIRE(rig.run().ok());
    CHECK(FakeDevice::get().counts().waits == before.waits);
    REQUIRE(rig.fetch().ok());
    rig.check_outputs();
}

TEST_CASE("executor: what a call queues after another thread has synchronized in the middle of it is waited for, too") {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        const auto device = open();
        const auto stream = new_stream();
        {
            Rig rig(device, {.device_buffers = true});
            rig.plan(40);
            REQUIRE(rig.begin(stream).ok());
            REQUIRE(rig.append().ok());
            rig.end();
            REQUIRE(rig.begin(stream).ok());
            std::vector<kvc::BadStore> bad;
            int launches = 0;
            FakeDevice::get().before_launches([&] { launches += device->synchronize(&bad).ok() ? 1 : 0; });
            REQUIRE(rig.attend().ok());
            FakeDevice::get().before_launches(nullptr);
            rig.end();
            CHECK(launches > 1);
            REQUIRE(rig.fetch().ok());
            rig.check_outputs();
        }
        destroy(stream);
    }
}

TEST_CASE("executor: steps of several sequences in flight on streams of their own and the device's, three steps deep") {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        INFO("seed ", seed);
        const Order order(seed);
        const auto device = open();
        std::vector<std::unique_ptr<Rig>> rigs;
        std::vector<kvc::cuda::Stream> streams{nullptr};
        for (unsigned i = 0; i < 3; i++) {
            rigs.push_back(std::make_unique<Rig>(device, RigShape{.codec = i == 1 ? "fp16" : "int4", .device_buffers = i != 2}, i + 1));
            streams.push_back(new_stream());
        }
        for (size_t step = 0; step < 4; step++) {
            for (auto& rig : rigs) {
                rig->plan(step < 3 ? 64 : 1);
            }
            // Nothing waits between these calls; a sequence changes its stream from step to step.
            for (size_t i = 0; i < rigs.size(); i++) {
                REQUIRE(rigs[i]->begin(streams[(i + step) % streams.size()]).ok());
            }
            for (auto& rig : rigs) {
                REQUIRE(rig->append().ok());
            }
            for (auto& rig : rigs) {
                REQUIRE(rig->attend().ok());
            }
            for (auto& rig : rigs) {
                rig->end();
            }
            if (step % 2 == 1) {
                for (auto& rig : rigs) {
                    REQUIRE(rig->fetch().ok());
                    rig->check_outputs();
                }
            }
        }
        for (auto& rig : rigs) {
            rig->check_records();
        }
        rigs.clear();
        for (const kvc::cuda::Stream stream : streams) {
            if (stream) {
                destroy(stream);
            }
        }
    }
}

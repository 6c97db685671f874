// kvc_cuda_device_tests: the CUDA device and its executor on a GPU, against the scalar kernels of the host. Exits with 77 without one.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cmath>
#include <cstdio>
#include <doctest/doctest.h>

#include "kernels/cuda/runtime.h"
#include "tests/cuda/device_rig.h"
#include "tests/cuda/measure_rig.h"
#include "tests/cuda/recode_rig.h"

using namespace kvc_test;

namespace {

std::shared_ptr<kvc::Device> device() {
    static const auto opened = kvc::open_device(0);
    REQUIRE_MESSAGE(opened.ok(), opened.status().message);
    return *opened;
}

void require(const kvc::Status& status) { REQUIRE_MESSAGE(status.ok(), status.message); }

}  // namespace

namespace kvc_test {

const Witness& witness() {
    static const Witness table = [] {
        for (int i = 0; i < kvc::kernel_table_count(); i++) {
            if (std::string(kvc::kernel_table(i)->name) == "scalar") {
                return Witness{*kvc::kernel_table(i), 3e-3};
            }
        }
        std::abort();
    }();
    return table;
}

}  // namespace kvc_test

TEST_CASE("gpu: memory of pools serves steps, and is taken back behind what is queued") {
    for (const kvc::DeviceHeap heap : {kvc::DeviceHeap::shared_pool, kvc::DeviceHeap::own_pool}) {
        const auto opened = kvc::open_device(0, heap);
        REQUIRE_MESSAGE(opened.ok(), opened.status().message);
        const std::shared_ptr<kvc::Device> pooled = *opened;
        Rig rig(pooled, {.device_buffers = true});
        for (const int64_t tokens : {64, 100, 1, 1}) {
            const int64_t n = (int64_t{3} << 20) + tokens;
            std::byte* const passing = pooled->allocate(n);
            REQUIRE(passing);
            std::vector<std::byte> sent(static_cast<size_t>(n), std::byte(tokens)), back(sent.size());
            require(pooled->write(passing, sent.data(), n));
            rig.plan(tokens);
            require(rig.run());
            require(pooled->read(passing, back.data(), n));
            pooled->release(passing);
            CHECK(back == sent);
            require(rig.fetch());
            rig.check_outputs();
        }
        rig.check_records();
    }
}

TEST_CASE("gpu: whose memory an address is of is known without touching it") {
    constexpr int64_t n = 4096;
    std::vector<std::byte> host(n);
    std::byte* const block = device()->allocate(n);
    auto* const pinned = static_cast<std::byte*>(device()->allocate_pinned(n));
    std::byte* const foreign = *kvc::cuda::runtime::allocate(int64_t{4} << 20);  // the driver's own unit, so that it ends there
    REQUIRE(block);
    REQUIRE(pinned);
    const auto code = [](const void* p, int64_t bytes, bool on_device) { return device()->check_memory(p, bytes, on_device).code; };
    for (const auto& [p, on_device] : {std::pair{host.data(), false}, {pinned, false}, {block, true}, {foreign, true}}) {
        CHECK(code(p, n, on_device) == kvc::Code::ok);
        CHECK(code(p, n, !on_device) == kvc::Code::argument);
    }
    CHECK(code(block, n + 1, true) == kvc::Code::argument);
    CHECK(code(pinned + 1, n, false) == kvc::Code::argument);
    CHECK(code(foreign, int64_t{1} << 40, true) == kvc::Code::argument);
    kvc::cuda::runtime::release(foreign);
    device()->release(block);
    device()->release_pinned(pinned);
}

TEST_CASE("gpu: bytes go there, across the device and back") {
    for (const int64_t n : {int64_t{1}, int64_t{4097}, (int64_t{70} << 20) + 13}) {
        std::byte* const a = device()->allocate(n);
        std::byte* const b = device()->allocate(n);
        auto* const pinned = static_cast<std::byte*>(device()->allocate_pinned(n));
        REQUIRE(a);
        REQUIRE(b);
        REQUIRE(pinned);
        std::vector<std::byte> sent(static_cast<size_t>(n)), back(sent);
        for (size_t i = 0; i < sent.size(); i++) {
            sent[i] = std::byte(i * 7 & 0xff);
        }
        require(device()->write(a, sent.data(), n));
        require(device()->copy(a, b, n));
        require(device()->read(b, back.data(), n));
        CHECK(back == sent);
        require(device()->read(b, pinned, n));
        CHECK(std::equal(sent.begin(), sent.end(), pinned));
        device()->release(a);
        device()->release(b);
        device()->release_pinned(pinned);
    }
}

TEST_CASE("gpu: new pages out of tokens of others have the scalar bytes, every format from every other") {
    for (const auto& [k_dim, v_dim] : {std::pair{64, 64}, {128, 128}, {96, 64}, {256, 256}}) {
        INFO(k_dim, " ", v_dim);
        check_recodes(device(), k_dim, v_dim, 1);
    }
}

TEST_CASE("gpu: numbers for policies, whom tokens join and their means are the host's bits") {
    for (const auto& [k_dim, v_dim] : {std::pair{64, 64}, {128, 128}, {96, 64}, {256, 256}}) {
        for (const char* const codec : {"int8", "int4", "int3", "int2", "kivi4", "fp16", "bf16", "k=int4.ch.g64.m8,v=int4.tok.rot.sym",
                                        "k=int2.ch.g64,v=int2.tok.ls"}) {
            INFO(std::string(codec), " ", k_dim, " ", v_dim);
            const TokenRecords records(device(), {codec, "int2"}, k_dim, v_dim);
            check_measures(device(), records, {0, 1, 31, 32, 33, 64, 300, 3000});
            for (const double least : {-2.0, 0.3}) {
                check_routes(device(), records, {{1, 1}, {7, 9}, {100, 1000}}, least);
            }
            for (const bool new_keys : {true, false}) {
                check_folds(device(), records, {{1, 2, 64, 3}, {5}}, new_keys);
            }
        }
    }
}

TEST_CASE("gpu: every preset is stored, coded and attended to as on the host") {
    for (const std::string& codec : grid_codecs()) {
        for (const auto& [k_dim, v_dim] : {std::pair{64, 64}, {128, 128}, {96, 64}}) {
            if (!fits(codec, k_dim, v_dim) || device()->records().unsupported(format_of(codec, k_dim, v_dim))) {
                continue;
            }
            for (const bool device_buffers : {false, true}) {
                INFO(codec, " ", k_dim, " ", v_dim, device_buffers ? ", device buffers" : ", host buffers");
                Rig rig(device(), {.codec = codec, .k_dim = k_dim, .v_dim = v_dim, .device_buffers = device_buffers, .gap = 3});
                for (const int64_t tokens : {60, 64, 64, 64, 1, 1, 30}) {
                    rig.plan(tokens);
                    require(rig.run());
                    require(rig.fetch());
                    rig.check_outputs();
                }
                rig.check_records();
            }
        }
    }
}

TEST_CASE("gpu: sequences on streams of their own, several steps deep, without waiting in between") {
    std::vector<std::unique_ptr<Rig>> rigs;
    std::vector<kvc::cuda::Stream> streams{nullptr};
    for (unsigned i = 0; i < 4; i++) {
        rigs.push_back(std::make_unique<Rig>(device(), RigShape{.k_dim = 128, .v_dim = 128, .device_buffers = true}, i + 1));
        const auto stream = kvc::cuda::runtime::create_stream();
        REQUIRE(stream.ok());
        streams.push_back(*stream);
    }
    for (size_t step = 0; step < 12; step++) {
        for (auto& rig : rigs) {
            rig->plan(step < 6 ? 64 : 1);
        }
        for (size_t i = 0; i < rigs.size(); i++) {
            require(rigs[i]->begin(streams[(i + step) % streams.size()]));
        }
        for (auto& rig : rigs) {
            require(rig->append());
        }
        for (auto& rig : rigs) {
            require(rig->attend());
        }
        for (auto& rig : rigs) {
            rig->end();
        }
        if (step % 3 == 2) {
            for (auto& rig : rigs) {
                require(rig->fetch());
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
            kvc::cuda::runtime::destroy_stream(stream);
        }
    }
}

TEST_CASE("gpu: tokens that cannot be stored are told at the next synchronize, once") {
    for (const bool device_buffers : {false, true}) {
        Rig rig(device(), {.sequences = 3, .device_buffers = device_buffers}, 1, 40);
        rig.plan(70);
        rig.spoil(2, 68, 1);
        rig.spoil(2, 30, 0);
        rig.spoil(0, 5, 1);
        require(rig.begin());
        require(rig.append());
        rig.end();
        std::vector<kvc::BadStore> bad;
        require(device()->synchronize(&bad));
        REQUIRE(bad.size() == 2);
        CHECK(bad[0].tag == 40);
        CHECK(bad[0].token == 5);
        CHECK(bad[1].tag == 42);
        CHECK(bad[1].token == 30);
        bad.clear();
        require(device()->synchronize(&bad));
        CHECK(bad.empty());
    }
}

int main(int argc, char** argv) {
    constexpr int no_device = 77;
    const auto count = kvc::device_count();
    if (!count.ok()) {
        std::fprintf(stderr, "%s\n", count.status().message.c_str());
        return no_device;
    }
    return doctest::Context(argc, argv).run();
}

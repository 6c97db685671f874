// New pages out of tokens of others, by the device: the bytes that the scalar definitions give, for every pair of formats.
#include <doctest/doctest.h>

#include "kernels/cuda/layout.cuh"
#include "kernels/cuda/records.h"
#include "tests/cuda/emulated_device.h"
#include "tests/cuda/recode_rig.h"

using namespace kvc_test;
using kvc::simt::FakeDevice;
using kvc::simt::LaneOrder;
namespace cuda = kvc::cuda;

TEST_CASE("recode: a channel's place in a record is the one that the layout gives it") {
    for (int dim = 16; dim <= 256; dim += 16) {
        for (int channel = 0; channel < dim; channel++) {
            const cuda::KeyPlace key = cuda::key_place(dim, channel);
            CHECK(cuda::key_channel(dim, key.fragment, key.quad, key.e) == channel);
            for (const int widest : {2, 4}) {
                const cuda::ValuePlace value = cuda::value_place(dim, channel, widest);
                CHECK(cuda::value_channel(dim, value.fragment, value.row, value.upper, widest) == channel);
                CHECK(value.row < 8);
            }
        }
    }
}

TEST_CASE("recode: every format from every other, whole pages, sparse ones and several formats in one page, has the scalar bytes") {
    check_recodes(open(), 64, 64, 1);
}

TEST_CASE("recode: the same at every pair of head dims"){
#define KVC_TEST_PAIR(KD, VD)             \
    {                                     \
        INFO(KD, " ", VD);                \
        check_recodes(open(), KD, VD, 5); \
    }
    KVC_CUDA_HEAD_DIMS(KVC_TEST_PAIR)
#undef KVC_TEST_PAIR
}

TEST_CASE("recode: a page may be written over one of its own sources, its positions over theirs, in any order of lanes and streams") {
    for (const LaneOrder lanes : {LaneOrder::forward, LaneOrder::reverse, LaneOrder::random}) {
        const Order order(lanes == LaneOrder::forward ? 0 : 5, lanes);
        for (const char* const codec :
             {"int8", "int3", "int2", "kivi4", "fp16", "bf16", "k=int4.ch.g64.m8,v=int4.tok.rot.sym", "k=int2.ch.g64,v=int2.tok.ls"}) {
            INFO(std::string(codec));
            const LayerFormat f = format_of(codec, 128, 128);
            Blocks blocks(open(), int64_t{2} << 20);
            std::vector<Blocks::Source> pages;
            for (unsigned i = 0; i < 5; i++) {
                std::vector<std::byte> side(sizeof(kvc::PageSide));
                for (size_t t = 0; t < side.size(); t += 8)
                    side[t] = std::byte(t / 8 * 3 + i), side[t + 1] = std::byte{7};
                const int64_t record = blocks.add(page_of(f, cuda::record_table(), 4 * i));
                pages.push_back({&f, record, i % 2 ? blocks.add(side) : -1, 1000 * int64_t(i)});
            }
            const int64_t fresh = blocks.add(sizeof(kvc::PageSide));
            // Two in the first round; the third lies where one of them took its tokens from, and takes its own from there, too.
            blocks.run({{&f, pages[0].record, fresh, {pages[0], pages[1]}, mixed_tokens(2, 64, 1), true, 0},
                        {&f, pages[3].record, pages[3].side, {pages[2], pages[3]}, mixed_tokens(2, 40, 2), true, 0},
                        {&f, pages[1].record, pages[1].side, {pages[4], pages[1]}, mixed_tokens(2, 64, 3), true, 1}});
        }
    }
}

TEST_CASE("recode: jobs run behind what was queued before and before what is queued later, also where they lap their ring") {
    for (const uint64_t seed : {1, 2, 3}) {
        const Order order(seed);
        const LayerFormat f = format_of("fp16", 64, 64);
        Blocks blocks(open(), int64_t{2} << 20);
        std::vector<Blocks::Source> pages;
        for (unsigned i = 0; i < 64; i++)
            pages.push_back({&f, blocks.add(page_of(f, cuda::record_table(), i)), -1, 0});
        const int64_t to = blocks.add(f.code_bytes);
        REQUIRE(blocks.send().ok());
        // One over the other: the last one's bytes stay. Each names 64 sources, so that a few hundred fill the ring.
        std::vector<Blocks::Job> jobs;
        for (int i = 0; i < 700; i++)
            jobs.push_back({&f, to, -1, pages, {{i * 5 % 64, i % 64}}, false, i});
        REQUIRE(blocks.recode_there(jobs).ok());
        blocks.recode_here({jobs.back()});
        CHECK(blocks.difference() == -1);
    }
}

TEST_CASE("recode: a call that fails says so, and a fault of the device shows at the next synchronize") {
    const LayerFormat f = format_of("int4", 64, 64);
    for (int64_t n = 1;; n++) {
        const Order order(uint64_t(n % 3));
        Blocks blocks(open(), int64_t{1} << 20);
        const Blocks::Source page = {&f, blocks.add(page_of(f, cuda::record_table(), 1)), -1, 0};
        REQUIRE(blocks.send().ok());
        const std::vector<Blocks::Job> jobs = {{&f, blocks.add(f.code_bytes), -1, {page}, tokens_of_page(kvc::all_live), true, 0}};
        FakeDevice::get().fail_call_in(n);
        const kvc::Status status = blocks.recode_there(jobs);
        FakeDevice::get().fail_call_in(0);
        if (status.ok()) {
            CHECK(n > 3);  // the copy, its mark, the order of what comes later
            break;
        }
        CHECK(status.code == kvc::Code::device);
        REQUIRE(n < 20);
    }
    const Order order(1);
    Blocks blocks(open(), int64_t{1} << 20);
    const Blocks::Source page = {&f, blocks.add(page_of(f, cuda::record_table(), 1)), -1, 0};
    REQUIRE(blocks.send().ok());
    std::vector<kvc::BadStore> bad;
    REQUIRE(blocks.device().synchronize(&bad).ok());
    FakeDevice::get().fault_in(2);  // the jobs' copy, then the kernel
    const kvc::Status status =
        blocks.recode_there({{&f, blocks.add(f.code_bytes), -1, {page}, tokens_of_page(kvc::all_live), true, 0}});
    CHECK((status.ok() || status.code == kvc::Code::device));
    CHECK(blocks.device().synchronize(&bad).code == kvc::Code::device);
    CHECK(blocks.recode_there({{&f, blocks.add(f.code_bytes), -1, {page}, tokens_of_page(kvc::all_live), true, 0}}).code ==
          kvc::Code::device);
}

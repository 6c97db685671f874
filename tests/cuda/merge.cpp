// Merging by the device: whom tokens join, what their means are, and pages that means are folded into; the bits of the host.
#include <cstring>
#include <doctest/doctest.h>

#include "kernels/cuda/page_kind.h"
#include "kernels/cuda/records.h"
#include "tests/cuda/codecs.h"
#include "tests/cuda/emulated_device.h"
#include "tests/cuda/measure_rig.h"

using namespace kvc_test;
using kvc::simt::FakeDevice;
using kvc::simt::LaneOrder;
namespace cuda = kvc::cuda;

namespace {

constexpr double any_cosine = -2;

// Rows of new numbers in the blocks' memory.
class NewRows {
public:
    NewRows(Blocks& blocks, const LayerFormat& f, unsigned seed) : blocks_(blocks), f_(f), seed_(seed) {}
    Blocks::Fold fold(int token, bool new_key) {
        seed_ += 2;
        return {token, new_key ? add(f_.k_dim, seed_) : -1, add(f_.v_dim, seed_ + 1)};
    }
    int64_t add(int dim, unsigned seed) {
        const std::vector<float> row = gaussian(size_t(dim), seed, seed % 3 ? 2.0f : 40000.0f);
        std::vector<std::byte> bytes(row.size() * sizeof(float));
        std::memcpy(bytes.data(), row.data(), bytes.size());
        return blocks_.add(bytes);
    }

private:
    Blocks& blocks_;
    const LayerFormat& f_;
    unsigned seed_;
};

}  // namespace

TEST_CASE("merge: each leaving token finds the kept one that the host finds, of equal ones the last, at the boundaries of tiles") {
    for (const char* const codec : main_codecs) {
        INFO(std::string(codec));
        const auto device = open();
        const TokenRecords records(device, {codec}, 64, 64);
        for (const double least : {any_cosine, 0.3, 0.999999, 1.5})
            check_routes(device, records, {{0, 5}, {1, 1}, {7, 8}, {8, 9}, {9, 7}, {5, 0}, {33, 70}}, least);
    }
}

TEST_CASE("merge: the same at every pair of head dims, over pages of several rungs"){
#define KVC_TEST_PAIR(KD, VD)                                         \
    {                                                                 \
        INFO(KD, " ", VD);                                            \
        const auto device = open();                                   \
        const TokenRecords records(device, {"int8", "int2"}, KD, VD); \
        check_routes(device, records, {{9, 40}}, any_cosine);         \
        check_folds(device, records, {{1, 2, 3, 40, 5}, {7}}, true);  \
    }
    KVC_CUDA_HEAD_DIMS(KVC_TEST_PAIR)
#undef KVC_TEST_PAIR
}

TEST_CASE("merge: means are the host's, of few and of many members, of keys too or of values alone") {
    for (const char* const codec : main_codecs) {
        INFO(std::string(codec));
        const auto device = open();
        const TokenRecords records(device, {codec}, 64, 64);
        for (const bool new_keys : {true, false})
            check_folds(device, records, {{2, 1, 64, 3, 65}, {}, {2}, {5, 5, 5, 5}}, new_keys);
    }
}

TEST_CASE("merge: in any order of lanes and streams") {
    for (const LaneOrder lanes : {LaneOrder::forward, LaneOrder::reverse, LaneOrder::random}) {
        const Order order(lanes == LaneOrder::forward ? 3 : 5, lanes);
        const auto device = open();
        const TokenRecords records(device, {"int4"}, 96, 64);
        check_routes(device, records, {{20, 30}, {3, 300}}, 0.1);
        check_folds(device, records, {{2, 30, 3}, {4}}, true);
    }
}

TEST_CASE("merge: new numbers are coded with their page, where it lies and beside it, every preset") {
    for (const char* const codec : main_codecs)
        for (const bool through_append : {true, false}) {
            INFO(std::string(codec));
            const LayerFormat f = format_of(codec, 128, 128);
            Blocks blocks(open(), int64_t{4} << 20);
            NewRows rows(blocks, f, 1);
            std::vector<Blocks::Job> jobs;
            for (const bool new_keys : {true, false})
                for (const bool in_place : {true, false}) {
                    const int64_t page = blocks.add(page_of(f, cuda::record_table(), 4 * unsigned(jobs.size())));
                    const int64_t to = in_place ? page : blocks.add(f.code_bytes);
                    Blocks::Job job = {&f, to, -1, {{&f, page, -1, 0}}, tokens_of_page(0x8123'4567'89ab'cdf1), through_append, 0};
                    for (const int token : {0, 5, 31, 32, 63})
                        job.folds.push_back(rows.fold(token, new_keys));
                    job.keeps_keys = !new_keys && !f.lossless;
                    jobs.push_back(job);
                }
            blocks.run(jobs);
        }
}

TEST_CASE("merge: new numbers are gathered with tokens of other pages and formats") {
    for (const char* const codec : {"int4", "kivi4", "fp16", "k=int4.ch.g32.m8,v=int2.tok.ls"}) {
        INFO(std::string(codec));
        const LayerFormat f = format_of(codec, 64, 64), other = format_of("int8", 64, 64);
        Blocks blocks(open(), int64_t{4} << 20);
        NewRows rows(blocks, f, 7);
        const Blocks::Source sources[] = {{&f, blocks.add(page_of(f, cuda::record_table(), 0)), -1, 0},
                                          {&other, blocks.add(page_of(other, cuda::record_table(), 4)), -1, 64}};
        std::vector<Blocks::Job> jobs;
        for (const int n : {1, 33, 64}) {
            Blocks::Job job = {&f, blocks.add(f.code_bytes), -1, {sources[0], sources[1]}, mixed_tokens(2, n, 3), true, 0};
            for (int token = n - 1; token < page_tokens; token += 3)  // behind the last one it is repeated
                job.folds.push_back(rows.fold(token, token % 2 == 0));
            jobs.push_back(job);
        }
        blocks.run(jobs);
    }
}

TEST_CASE("merge: means are stored in sinks and windows as tokens that are appended, saturated") {
    for (const char* const codec : {"int4", "fp16", "bf16", "kivi2"}) {
        INFO(std::string(codec));
        const LayerFormat f = format_of(codec, 96, 96);
        const auto device = open();
        Blocks blocks(device, int64_t{4} << 20);
        NewRows rows(blocks, f, 3);
        const int64_t window = blocks.add(page_of(kvc::window_as_codes(f), cuda::record_table(), 0));
        const int64_t sinks = f.codec.sinks > 0 ? blocks.add(f.sink_bytes) : -1;
        std::vector<kvc::StoreParams> there, here;
        for (int slot = 0; slot < page_tokens; slot += 7) {
            const Blocks::Fold fold = rows.fold(slot, true);
            const bool sink = sinks >= 0 && slot == 0;
            const auto job = [&](const std::byte* base) {
                auto* const record = const_cast<std::byte*>(base) + (sink ? sinks : window);
                return kvc::StoreParams{&f, base + fold.k, base + fold.v, kvc::Dtype::f32, 96, 96, 1, record, sink, slot, true};
            };
            there.push_back(job(blocks.there())), here.push_back(job(blocks.here()));
        }
        REQUIRE(blocks.send().ok());
        REQUIRE(device->store(there).ok());
        for (const kvc::StoreParams& job : here)
            CHECK(cuda::record_table().store(job) == -1);
        CHECK(blocks.difference() == -1);
    }
}

TEST_CASE("merge: a call that fails says so, and the next one works") {
    for (const bool folds : {true, false})
        for (int64_t n = 1;; n++) {
            const Order order(uint64_t(n % 3));
            const auto device = open();
            const TokenRecords records(device, {"int4"}, 64, 64);
            const TokenRecords::List list = records.draw(40, 1, true);
            auto* const rows = reinterpret_cast<float*>(device->allocate(4096));
            std::vector<int64_t> out(40), weights(40, 1), ends = {40};
            const kvc::RouteJob route = {&records.format(), list.list(), list.list(), 0.5, out.data()};
            const kvc::FoldJob fold = {&records.format(), list.list(), weights.data(), ends.data(), 1, true, rows};
            FakeDevice::get().fail_call_in(n);
            const kvc::Status status = folds ? device->fold({&fold, 1}) : device->route({&route, 1});
            FakeDevice::get().fail_call_in(0);
            if (!status.ok()) check_routes(device, records, {{4, 9}}, any_cosine);
            device->release(reinterpret_cast<std::byte*>(rows));
            if (status.ok()) {
                CHECK(n > 4);
                break;
            }
            CHECK((status.code == kvc::Code::device || status.code == kvc::Code::no_memory));
            REQUIRE(n < 20);
        }
}

// No bit of a kernel's result depends on the order in which the threads of a block take their turns.
#include "kernels/simt/lane_order.h"

#include <cstring>
#include <doctest/doctest.h>

#include "kernels/simt/table.h"
#include "tests/kernels/attend_run.h"

using namespace kvc_test;
using kvc::simt::LaneOrder;

namespace {

// Everything that store, quantize, attend and finish write for one head.
std::vector<std::byte> bytes_of(const std::string& codec, int dim, bool prompt_class, LaneOrder order, uint64_t seed,
                                int architecture = 90) {
    kvc::simt::set_lane_order(order, seed);
    kvc::simt::set_architecture(architecture);
    Head head(*kvc::simt::cuda_table(), codec, dim, dim, 4);
    head.set_live(1, 0xf0ffffffffffff7fu);
    const bool lossless = head.format().lossless;
    const int64_t n = head.sinks() + 200;
    const auto item = head.item_of(n, lossless ? 0 : 2);
    const Ask ask{
        .tokens = 15, .group = 5, .first_position = n - 15, .prompt_class = prompt_class, .soft_cap = 20.0f, .sliding_window = 180};
    const std::vector<float> q = gaussian(size_t(ask.tokens * ask.group * dim), 5);
    const Answer answer = attend(head, *item, ask, q);
    check_answer(head, *item, ask, q, answer);
    std::vector<std::byte> bytes;
    const auto append = [&bytes](const void* p, int64_t size) {
        const auto* from = static_cast<const std::byte*>(p);
        bytes.insert(bytes.end(), from, from + size);
    };
    append(answer.states.data(), int64_t(answer.states.size() * sizeof(float)));
    append(answer.out.data(), int64_t(answer.out.size() * sizeof(float)));
    append(answer.lse.data(), int64_t(answer.lse.size() * sizeof(float)));
    for (int64_t e = 0; e < item->item.n_coded; ++e) {
        append(head.records().at(item->item.coded[e].record), head.format().code_bytes);
    }
    append(head.records().at(item->item.window[0].record), head.format().window_bytes);
    kvc::simt::set_lane_order(kvc::simt::lane_order_of_run());
    return bytes;
}

}  // namespace

TEST_CASE("lane order: forward, reverse and random orders write the same bytes") {
    for (const char* codec : {"int8", "int4", "k3v2", "int2", "kivi4", "fp16", "bf16", "k=int4.ch.g64.m8,v=int4.tok.rot.sym",
                              "k=int2.ch.g64,v=int2.tok.ls"}) {
        for (const auto& [dim, prompt_class] : {std::pair{64, false}, {112, false}, {64, true}, {112, true}}) {
            if (!fits(codec, dim, dim) || !offers(*kvc::simt::cuda_table(), codec, dim, dim)) {
                continue;
            }
            INFO(std::string(codec), " ", dim, " prompt ", prompt_class);
            const std::vector<std::byte> forward = bytes_of(codec, dim, prompt_class, LaneOrder::forward, 1);
            CHECK(bytes_of(codec, dim, prompt_class, LaneOrder::reverse, 1) == forward);
            for (const uint64_t seed : {3, 1001, 77777}) {
                INFO("seed ", seed);
                CHECK(bytes_of(codec, dim, prompt_class, LaneOrder::random, seed) == forward);
            }
        }
    }
}

// With a ring of one slot, of two, and without one: for lack of bulk copies (80), or of shared memory (120, int8 at head dim 256). Prompt
// kernels in all their forms: scales read before the loop (100) or in it, sums one fragment behind (120) or not.
TEST_CASE("lane order: all architectures write the same bytes") {
    for (const char* codec : {"int8", "int4", "int3", "int2", "kivi2", "fp16", "bf16"}) {
        for (const int dim : {80, 128, 256}) {
            if (!fits(codec, dim, dim)) {
                continue;
            }
            INFO(std::string(codec), " ", dim);
            const std::vector<std::byte> with = bytes_of(codec, dim, false, LaneOrder::random, 5);
            CHECK(bytes_of(codec, dim, false, LaneOrder::random, 5, 80) == with);
            CHECK(bytes_of(codec, dim, false, LaneOrder::random, 5, 120) == with);
            const std::vector<std::byte> prompt = bytes_of(codec, dim, true, LaneOrder::random, 5);
            CHECK(bytes_of(codec, dim, true, LaneOrder::random, 5, 100) == prompt);
            CHECK(bytes_of(codec, dim, true, LaneOrder::random, 5, 120) == prompt);
        }
    }
}

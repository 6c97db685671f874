// Attention of every table against exact attention: the grid of codecs, head dims, GQA ratios and lengths.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

#include "core/base/half.h"
#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

// Pages behind the window of the tests' own rule, W = 64: what a cache would have coded at length n.
int64_t coded_at(const Head& head, int64_t n) { return std::max(int64_t{0}, n - head.sinks() - 64) / page_tokens; }

}  // namespace

TEST_CASE("attend: every codec, head dim, GQA ratio and length is within the derived bound, and within the tolerance overall") {
    for_each_table([](const KernelTable& table) {
        int combination = 0;
        for (const std::string& codec : grid_codecs()) {
            for (const int dim : {64, 80, 96, 112, 128, 256}) {
                if (!fits(codec, dim, dim) || !offers(table, codec, dim, dim)) {
                    continue;
                }
                Head head(table, codec, dim, dim, 5, unsigned(dim));
                for (const int64_t group : {1, 3, 4, 8, 16}) {
                    // All boundaries, spread over the groups so that each length meets each codec and dim.
                    const int64_t lengths[][4] = {
                        {0, 63, 127, 260}, {1, 64, 128, 196}, {3, 65, 129, 200}, {4, 67, 131, 132}, {5, 68, 69, 133}};
                    const auto& chosen = lengths[group == 1 ? 0 : group == 3 ? 1 : group == 4 ? 2 : group == 8 ? 3 : 4];
                    for (const int64_t n : chosen) {
                        const std::vector<float> q = gaussian(size_t(group * dim), unsigned(n + group));
                        const auto item = head.item_of(n, head.format().lossless ? 0 : coded_at(head, n));
                        for (const bool prompt_class : {false, true}) {
                            if (combination++ % grid_stride() != 0) {
                                continue;
                            }
                            INFO(std::string(table.name), " ", std::string(codec), " dim ", dim, " group ", group, " length ", n,
                                 " prompt ", prompt_class);
                            const Ask ask{.group = group,
                                          .first_position = std::max(int64_t{0}, n - 1),
                                          .prompt_class = prompt_class,
                                          .scale = 1.0f / std::sqrt(float(dim))};
                            const Answer answer = attend(head, *item, ask, q);
                            CHECK(check_answer(head, *item, ask, q, answer) <= tolerance(table));
                        }
                    }
                }
            }
        }
    });
}

TEST_CASE("attend: keys and values of different widths") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : {"fp16", "int8", "int4", "k3v2", "k=int4.tok.rot,v=int4.ch.g32"}) {
            for (const auto& [k_dim, v_dim] : {std::pair{192, 128}, {64, 256}, {16, 16}, {96, 32}}) {
                if (!offers(table, codec, k_dim, v_dim)) {
                    continue;
                }
                INFO(std::string(table.name), " ", std::string(codec), " ", k_dim, " ", v_dim);
                Head head(table, codec, k_dim, v_dim, 3);
                const int64_t n = head.sinks() + 150;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 1);
                const std::vector<float> q = gaussian(size_t(2 * k_dim), 3);
                const Ask ask{.group = 2, .first_position = n - 1};
                CHECK(check_answer(head, *item, ask, q, attend(head, *item, ask, q)) <= tolerance(table));
            }
        }
    });
}

TEST_CASE("attend: a row's bits do not depend on the other rows of its tile, in either class") {
    for_each_table([](const KernelTable& table) {
        int combination = 0;
        for (const std::string& codec : grid_codecs()) {
            for (const int dim : {64, 80}) {
                for (const bool prompt_class : {false, true}) {
                    if (combination++ % grid_stride() != 0) {
                        continue;
                    }
                    if (!fits(codec, dim, dim) || !offers(table, codec, dim, dim)) {
                        continue;
                    }
                    INFO(std::string(table.name), " ", std::string(codec), " ", dim, " prompt ", prompt_class);
                    Head head(table, codec, dim, dim, 4);
                    const int64_t n = head.sinks() + 230, first = n - 64;
                    const auto item = head.item_of(n, head.format().lossless ? 0 : 2);
                    Ask ask{.tokens = 64, .group = 3, .first_position = first, .prompt_class = prompt_class};
                    const std::vector<float> q = gaussian(size_t{64} * 3 * size_t(dim), 8);
                    const Answer tile = attend(head, *item, ask, q);
                    CHECK(check_answer(head, *item, ask, q, tile) <= tolerance(table));
                    for (const auto& [from, count] : {std::pair<int64_t, int64_t>{0, 1}, {1, 1}, {17, 5}, {63, 1}, {32, 32}}) {
                        Ask part = ask;
                        part.tokens = count;
                        part.first_position = first + from;
                        const std::vector<float> some(q.begin() + from * 3 * dim, q.begin() + (from + count) * 3 * dim);
                        // The part's item ends at its own last token, as it would in another cut of the stream.
                        const auto cut = head.item_of(part.first_position + count, head.format().lossless ? 0 : 2);
                        const Answer alone = attend(head, *cut, part, some);
                        CHECK(std::memcmp(alone.out.data(), tile.out.data() + from * 3 * dim, alone.out.size() * sizeof(float)) == 0);
                        CHECK(std::memcmp(alone.lse.data(), tile.lse.data() + from * 3, alone.lse.size() * sizeof(float)) == 0);
                    }
                }
            }
        }
    });
}

TEST_CASE("attend: q in f16 and bf16, with strides, is the same as the numbers in f32") {
    for_each_table([](const KernelTable& table) {
        for (const kvc::Dtype dtype : {kvc::Dtype::f16, kvc::Dtype::bf16}) {
            for (const char* codec : {"int4", "fp16", "k=int8.tok.rot.sym,v=int8.tok.rot.sym"}) {
                if (!offers(table, codec, 64, 64)) {
                    continue;
                }
                INFO(std::string(table.name), " ", std::string(codec), " ", int(dtype));
                constexpr int64_t dim = 64, tokens = 2, group = 2, token_stride = 1000, head_stride = 100;
                Head head(table, codec, dim, dim, 3);
                const int64_t n = head.sinks() + 140;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 1);
                std::vector<uint16_t> half(tokens * token_stride, 0x7fff);
                std::vector<float> q = gaussian(tokens * group * dim, 4);
                for (int64_t i = 0; i < tokens * group * dim; ++i) {
                    const int64_t at = i / (group * dim) * token_stride + i / dim % group * head_stride + i % dim;
                    const bool bf16 = dtype == kvc::Dtype::bf16;
                    half[size_t(at)] = bf16 ? kvc::bf16_from_f32(q[size_t(i)]) : kvc::f16_from_f32(q[size_t(i)]);
                    q[size_t(i)] = bf16 ? kvc::f32_from_bf16(half[size_t(at)]) : kvc::f32_from_f16(half[size_t(at)]);
                }
                const Ask ask{.tokens = tokens, .group = group, .first_position = n - 2};
                const Answer expected = attend(head, *item, ask, q);
                std::vector<float> states(expected.states.size(), NAN);
                kvc::AttendParams params = params_of(head, ask);
                params.q_dtype = dtype;
                params.q_token_stride = token_stride;
                params.q_head_stride = head_stride;
                item->item.q = half.data();
                item->item.state = states.data();
                table.attend(params, item->item, scratch_for(head, ask).get());
                CHECK(std::memcmp(states.data(), expected.states.data(), states.size() * sizeof(float)) == 0);
            }
        }
    });
}

TEST_CASE("attend: state rows may lie apart, and nothing between them is written") {
    for_each_table([](const KernelTable& table) {
        INFO(std::string(table.name));
        constexpr int64_t dim = 64, stride = 7;
        Head head(table, "int4", dim, dim, 2);
        const auto item = head.item_of(100, 0);
        const std::vector<float> q = gaussian(3 * 2 * dim, 4);
        const Ask ask{.tokens = 3, .group = 2, .first_position = 97};
        const Answer dense = attend(head, *item, ask, q);
        std::vector<float> states(size_t(3 * stride * (dim + 2)), 77.0f);
        item->item.state = states.data();
        item->item.state_token_stride = stride;
        table.attend(params_of(head, ask), item->item, scratch_for(head, ask).get());
        for (int64_t row = 0; row < 3 * stride; ++row) {
            for (int64_t i = 0; i < dim + 2; ++i) {
                const float expected =
                    row % stride < 2 ? dense.states[size_t((row / stride * 2 + row % stride) * (dim + 2) + i)] : 77.0f;
                REQUIRE(states[size_t(row * (dim + 2) + i)] == expected);
            }
        }
    });
}

TEST_CASE("attend: large and tiny logits stay finite and within the bound") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : {"fp16", "int8", "int4", "int2", "kivi2"}) {
            if (!offers(table, codec, 64, 64)) {
                continue;
            }
            for (const float scale : {0.0f, 1e-6f, 2.0f, 30.0f}) {
                for (const float cap : {0.0f, 1.0f, 30.0f}) {
                    INFO(std::string(table.name), " ", std::string(codec), " scale ", scale, " cap ", cap);
                    Head head(table, codec, 64, 64, 4);
                    const int64_t n = head.sinks() + 200;
                    const auto item = head.item_of(n, head.format().lossless ? 0 : 2);
                    const std::vector<float> q = gaussian(4 * 64, 12);
                    const Ask ask{.group = 4, .first_position = n - 1, .scale = scale, .soft_cap = cap};
                    check_answer(head, *item, ask, q, attend(head, *item, ask, q));
                }
            }
        }
    });
}

// Merging splits, sink logits, output types, and attention mass.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <numeric>

#include "core/base/half.h"
#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

const char* const codecs[] = {"fp16", "bf16", "int8", "int4", "int2", "kivi4", "k=int4.tok.rot,v=int4.ch.g32"};

// The same tokens in several items: sinks alone, each coded page, the window. One state per split, for `group` rows of one token.
std::vector<float> split_states(Head& head, int64_t n, int64_t coded, const Ask& ask, const std::vector<float>& q, int64_t* splits) {
    std::vector<float> states;
    const auto run = [&](std::unique_ptr<Item> item) {
        const Answer answer = attend(head, *item, ask, q);
        states.insert(states.end(), answer.states.begin(), answer.states.end());
        ++*splits;
    };
    *splits = 0;
    run(head.item_of(n, 0, 0, true, false));
    run(head.item_of(0, 0));  // an empty split in between
    for (int64_t page = 0; page < coded; ++page) {
        run(head.item_of(n, page + 1, page, false, false));
    }
    run(head.item_of(n, coded, coded, false, true));
    run(head.item_of(0, 0));
    return states;
}

}  // namespace

TEST_CASE("finish: splits merge to the attention over all of them, empty ones included") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : codecs) {
            for (const int dim : {64, 112}) {
                if (!fits(codec, dim, dim) || !offers(table, codec, dim, dim)) {
                    continue;
                }
                INFO(std::string(table.name), " ", std::string(codec), " ", dim);
                Head head(table, codec, dim, dim, 4);
                const int64_t n = head.sinks() + 200, coded = head.format().lossless ? 0 : 2;
                const Ask ask{.group = 2, .first_position = n - 1};
                const std::vector<float> q = gaussian(size_t(2 * dim), 7);
                int64_t splits = 0;
                const std::vector<float> states = split_states(head, n, coded, ask, q, &splits);
                Answer merged{{}, std::vector<float>(size_t(2 * dim)), std::vector<float>(2)};
                for (int64_t g = 0; g < 2; ++g) {
                    finish(head.format(), table, states.data() + g * (dim + 2), splits, 2 * (dim + 2), ask, merged.out.data() + g * dim,
                           &merged.lse[size_t(g)]);
                }
                const auto whole = head.item_of(n, coded);
                CHECK(check_answer(head, *whole, ask, q, merged) <= tolerance(table));
            }
        }
    });
}

TEST_CASE("finish: a sink logit enters the denominator once") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : codecs) {
            if (!offers(table, codec, 64, 64)) {
                continue;
            }
            // On the heap, as all that a table gets: kernels of a GPU read no stack.
            const std::vector<float> logits{-HUGE_VALF, -100.0f, 0.5f, 4.0f, 100.0f};
            for (const float& logit : logits) {
                INFO(std::string(table.name), " ", std::string(codec), " ", logit);
                Head head(table, codec, 64, 64, 3);
                const int64_t n = head.sinks() + 150, coded = head.format().lossless ? 0 : 1;
                const Ask ask{.group = 2, .first_position = n - 1, .sink_logit = &logit};
                const std::vector<float> q = gaussian(2 * 64, 7);
                const auto item = head.item_of(n, coded);
                check_answer(head, *item, ask, q, attend(head, *item, ask, q));
            }
        }
    });
}

TEST_CASE("finish: nothing seen gives 0 and -infinity; with a sink logit, 0 and that logit") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : codecs) {
            if (!offers(table, codec, 64, 64)) {
                continue;
            }
            INFO(std::string(table.name), " ", std::string(codec));
            const LayerFormat f = format_of(codec, 64, 64);
            std::vector<float> states(3 * 66, 0.0f);
            for (size_t s = 0; s < 3; ++s) {
                states[s * 66 + 64] = -HUGE_VALF;
            }
            for (const int64_t splits : {0, 1, 2, 3}) {
                std::vector<float> out(64, NAN), lse(2, NAN);
                table.finish({&f, states.data(), splits, 66, nullptr, kvc::Dtype::f32, out.data(), &lse[0], &lse[1]});
                CHECK(lse[0] == -HUGE_VALF);
                CHECK(lse[1] == -HUGE_VALF);
                CHECK(out == std::vector<float>(64, 0.0f));
                const std::vector<float> logit{-3.5f};
                out.assign(64, NAN);
                table.finish({&f, states.data(), splits, 66, logit.data(), kvc::Dtype::f32, out.data(), &lse[0], nullptr});
                CHECK(lse[0] == -3.5f);
                CHECK(out == std::vector<float>(64, 0.0f));
            }
        }
    });
}

TEST_CASE("finish: f16 and bf16 outputs are the f32 output, rounded") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : codecs) {
            if (!offers(table, codec, 128, 96)) {
                continue;
            }
            INFO(std::string(table.name), " ", std::string(codec));
            const LayerFormat f = format_of(codec, 128, 96);
            std::vector<float> states = gaussian(2 * 98, 3);
            states[97] = 2.0f;
            states[98 + 97] = 3.0f;
            std::vector<float> out(96);
            std::vector<uint16_t> half(96);
            table.finish({&f, states.data(), 2, 98, nullptr, kvc::Dtype::f32, out.data(), nullptr, nullptr});
            table.finish({&f, states.data(), 2, 98, nullptr, kvc::Dtype::f16, half.data(), nullptr, nullptr});
            for (size_t d = 0; d < 96; ++d) {
                REQUIRE(half[d] == kvc::f16_from_f32(out[d]));
            }
            table.finish({&f, states.data(), 2, 98, nullptr, kvc::Dtype::bf16, half.data(), nullptr, nullptr});
            for (size_t d = 0; d < 96; ++d) {
                REQUIRE(half[d] == kvc::bf16_from_f32(out[d]));
            }
        }
    });
}

namespace {

struct Counters {
    std::vector<int64_t> sinks, coded, window;
};

Counters mass_of(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q, const std::vector<float>& lse) {
    Counters c{std::vector<int64_t>(size_t(head.sinks()), 5), std::vector<int64_t>(size_t(item.item.n_coded * page_tokens), 5),
               std::vector<int64_t>(size_t(item.item.n_window * page_tokens), 5)};
    kvc::MassItem mass{item.item, lse.data(), ask.group, c.sinks.data(), c.coded.data(), c.window.data()};
    fill_item(ask, q.data(), &mass.item);
    mass.item.state = nullptr;
    head.table().mass(params_of(head, ask), mass, scratch_for(head, ask).get());
    return c;
}

// Counters in the order of the item's tiles.
std::vector<int64_t> in_order(const Item& item, const Counters& c) {
    std::vector<int64_t> all;
    if (item.item.sinks) {
        all = c.sinks;
        all.resize(size_t(page_tokens), 5);
    }
    all.insert(all.end(), c.coded.begin(), c.coded.end());
    all.insert(all.end(), c.window.begin(), c.window.end());
    return all;
}

}  // namespace

TEST_CASE("mass: every token gets the sum of its probabilities, each within its bound and half a unit") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : codecs) {
            if (!offers(table, codec, 64, 64) || !offers_mass(table)) {
                continue;
            }
            for (const auto& [prompt_class, weighed] : {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
                if (weighed && !offers_counts(table)) {
                    continue;
                }
                INFO(std::string(table.name), " ", std::string(codec), " prompt ", prompt_class, " counts ", weighed);
                Head head(table, codec, 64, 64, 4);
                head.set_live(0, 0xfff0ffffffff0fffu);
                const int64_t n = head.sinks() + 215;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 2);
                if (weighed) {
                    give_counts(item.get(), 3);
                }
                const std::vector<float> logit{1.0f};
                const Ask ask{.tokens = 5,
                              .group = 3,
                              .first_position = n - 5,
                              .prompt_class = prompt_class,
                              .sliding_window = 150,
                              .sink_logit = logit.data()};
                const std::vector<float> q = gaussian(5 * 3 * 64, 7);
                const Answer answer = attend(head, *item, ask, q);
                const std::vector<int64_t> counters = in_order(*item, mass_of(head, *item, ask, q, answer.lse));
                REQUIRE(counters.size() == item->tiles.size() * size_t(page_tokens));
                std::vector<double> expected(counters.size(), 0.0), bound(counters.size(), 0.0);
                for (int64_t t = 0; t < ask.tokens; ++t) {
                    for (int64_t g = 0; g < ask.group; ++g) {
                        const Exact exact = exact_row(head, *item, ask, q, t, g);
                        for (size_t i = 0; i < counters.size(); ++i) {
                            const double p = exact.p[i / 64][i % 64];
                            expected[i] += p * 0x1p30;
                            // p = exp(logit - lse): the logit's error, and that of the lse.
                            bound[i] += p > 0 ? (exact.p_bound[i / 64][i % 64] + p * std::expm1(exact.lse_bound)) * 0x1p30 + 0.5 : 0.0;
                        }
                    }
                }
                double worst = 0;
                for (size_t i = 0; i < counters.size(); ++i) {
                    const double difference = std::abs(double(counters[i] - 5) - expected[i]);
                    REQUIRE((bound[i] > 0 || counters[i] == 5));
                    worst = std::max(worst, bound[i] > 0 ? difference / bound[i] : 0.0);
                }
                CHECK(worst <= 1.0);
            }
        }
    });
}

TEST_CASE("mass: a row that saw nothing adds nothing; a lone token gets exactly 2^30; nothing exceeds it") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : codecs) {
            if (!offers(table, codec, 64, 64) || !offers_mass(table)) {
                continue;
            }
            INFO(std::string(table.name), " ", std::string(codec));
            Head head(table, codec, 64, 64, 2);
            const int64_t n = head.sinks() + 100;
            const auto item = head.item_of(n, head.format().lossless ? 0 : 1);
            Ask ask{.first_position = n - 1, .sliding_window = 1};
            const std::vector<float> q = gaussian(64, 7);
            const Answer alone = attend(head, *item, ask, q);
            const std::vector<int64_t> lone = in_order(*item, mass_of(head, *item, ask, q, alone.lse));
            // lse = m + log(1): the logit itself, so p is exp(0).
            CHECK(std::accumulate(lone.begin(), lone.end(), int64_t{0}) == int64_t(lone.size()) * 5 + (int64_t{1} << 30));

            ask.sliding_window = INT64_MAX;
            const std::vector<int64_t> none = in_order(*item, mass_of(head, *item, ask, q, {-HUGE_VALF}));
            CHECK(none == std::vector<int64_t>(none.size(), 5));
            // An lse far below the logits cannot come from attend; p is clamped to 1 all the same.
            const std::vector<int64_t> full = in_order(*item, mass_of(head, *item, ask, q, {-80.0f}));
            for (const int64_t counter : full) {
                REQUIRE(counter <= 5 + (int64_t{1} << 30));
            }
        }
    });
}

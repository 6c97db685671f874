// Tokens that others joined: log(count) joins their logits, in every form a page has, and nothing else changes a bit.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

int64_t coded_pages(const Head& head) { return head.format().lossless ? 0 : 2; }

bool same_bits(const Answer& a, const Answer& b) {
    return std::memcmp(a.states.data(), b.states.data(), a.states.size() * sizeof(float)) == 0 &&
           std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("counts: every codec, head dim, GQA ratio and class weighs tokens by what they stand for, within the derived bound") {
    for_each_table([](const KernelTable& table) {
        if (!offers_counts(table)) {
            return;
        }
        int combination = 0;
        for (const std::string& codec : grid_codecs()) {
            for (const int dim : {64, 80, 128}) {
                if (!fits(codec, dim, dim) || !offers(table, codec, dim, dim)) {
                    continue;
                }
                Head head(table, codec, dim, dim, 4, unsigned(dim));
                for (const int64_t group : {1, 3, 4, 8}) {
                    for (const auto& [prompt_class, cap] : {std::pair{false, 0.0f}, {true, 0.0f}, {false, 3.0f}, {true, 3.0f}}) {
                        if (combination++ % grid_stride() != 0) {
                            continue;
                        }
                        INFO(std::string(table.name), " ", codec, " dim ", dim, " group ", group, " prompt ", prompt_class);
                        const int64_t n = head.sinks() + 215;
                        const auto item = head.item_of(n, coded_pages(head));
                        give_counts(item.get(), unsigned(group));
                        const Ask ask{.tokens = 3,
                                      .group = group,
                                      .first_position = n - 3,
                                      .prompt_class = prompt_class,
                                      .scale = 1.0f / std::sqrt(float(dim)),
                                      .soft_cap = cap};
                        const std::vector<float> q = gaussian(size_t(3 * group * dim), unsigned(group));
                        CHECK(check_answer(head, *item, ask, q, attend(head, *item, ask, q)) <= tolerance(table));
                    }
                }
            }
        }
    });
}

TEST_CASE("counts: they follow tokens into repacked pages, past dead tokens and dropped pages") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : {"fp16", "int8", "int4", "kivi2", "k=int4.tok.rot,v=int4.ch.g32"}) {
            if (!offers_counts(table) || !offers(table, codec, 64, 64)) {
                continue;
            }
            for (const bool prompt_class : {false, true}) {
                INFO(std::string(table.name), " ", std::string(codec), " prompt ", prompt_class);
                Head head(table, codec, 64, 64, 4);
                head.start_at(1000);
                std::array<int64_t, page_tokens> positions{};
                for (int64_t t = 0; t < page_tokens; ++t) {
                    positions[size_t(t)] = 1004 + t * 2;
                }
                head.set_positions(0, positions);
                head.set_live(0, 0x0ffffffffffffff1u);
                head.set_live(1, uint64_t{1} << 63);
                head.drop(2);
                const auto item = head.item_of(head.sinks() + 240, coded_pages(head));
                give_counts(item.get(), 9);
                const Ask ask{.tokens = 2, .group = 2, .first_position = 1000 + head.sinks() + 238, .prompt_class = prompt_class};
                const std::vector<float> q = gaussian(2 * 2 * 64, 6);
                check_answer(head, *item, ask, q, attend(head, *item, ask, q));
            }
        }
    });
}

TEST_CASE("counts: where none is above 1, or none lies where a query looks, no bit changes") {
    for_each_table([](const KernelTable& table) {
        for (const std::string& codec : grid_codecs()) {
            if (!offers_counts(table) || !offers(table, codec, 64, 64)) {
                continue;
            }
            for (const bool prompt_class : {false, true}) {
                INFO(std::string(table.name), " ", codec, " prompt ", prompt_class);
                Head head(table, codec, 64, 64, 4);
                head.start_at(500);
                const auto item = head.item_of(head.sinks() + 215, coded_pages(head));
                const Ask ask{.tokens = 2, .group = 2, .first_position = 500 + head.sinks() + 213, .prompt_class = prompt_class};
                const std::vector<float> q = gaussian(2 * 2 * 64, 6);
                const Answer plain = attend(head, *item, ask, q);
                item->counts = {{0, 9, 2.0f}, {499, 9, 2.0f}, {520, 1, 0.0f}, {600, 7, 0.0f}, {500 + 900, 9, 2.0f}};
                item->item.counts = item->counts.data();
                item->item.n_counts = int64_t(item->counts.size());
                CHECK(same_bits(plain, attend(head, *item, ask, q)));
            }
        }
    });
}

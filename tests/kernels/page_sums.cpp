// What attend leaves of each page for attention mass, and the counters that come of it, against exact attention and the pass over keys.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>

#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

struct Pages {
    std::vector<kvc::PageSum> sums;  // [runs][tokens][group]
    Answer answer;
};

Pages attend_pages(Head& head, Item& item, const Ask& ask, const std::vector<float>& q) {
    Pages pages;
    pages.sums.resize(size_t(item.item.runs() * ask.tokens * ask.group));
    item.item.page_sums = pages.sums.data();
    pages.answer = attend(head, item, ask, q);
    item.item.page_sums = nullptr;
    return pages;
}

// One counter for each run, the sinks' first; all begin at 5.
std::vector<int64_t> page_mass(Head& head, const Item& item, const Ask& ask, Pages& pages, const std::vector<float>& lse) {
    std::vector<int64_t> counters(size_t(item.item.runs()), 5);
    kvc::MassItem mass{item.item, lse.data(), ask.group, counters.data(), counters.data() + 1, counters.data() + 1 + item.item.n_coded};
    fill_item(ask, nullptr, &mass.item);
    mass.item.page_sums = pages.sums.data();
    head.table().page_mass(ask.group, mass);
    return counters;
}

// The mass of tokens by the pass over keys, added up over each run; what it adds to a counter, that is.
std::vector<int64_t> summed_mass(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q,
                                 const std::vector<float>& lse) {
    std::vector<int64_t> tokens(size_t(item.item.runs() * page_tokens), 0);
    kvc::MassItem mass{item.item,
                       lse.data(),
                       ask.group,
                       tokens.data(),
                       tokens.data() + page_tokens,
                       tokens.data() + (1 + item.item.n_coded) * page_tokens};
    fill_item(ask, q.data(), &mass.item);
    head.table().mass(params_of(head, ask), mass, scratch_for(head, ask).get());
    std::vector<int64_t> runs(size_t(item.item.runs()), 0);
    for (size_t i = 0; i < tokens.size(); ++i) {
        runs[i / page_tokens] += tokens[i];
    }
    return runs;
}

// exp and the sums of 64 weights in f32, by any kernel: units in the last place, of which a logit of size x costs x.
double rounding_of(double largest_logit) { return (largest_logit + 128.0) * 0x1p-23; }

// Exact mass of each of the item's tiles, and by how much a table may miss it.
struct Expected {
    std::vector<double> mass, bound;
};

Expected expected_of(Head& head, const Item& item, const Ask& ask, const std::vector<float>& q) {
    Expected expected{std::vector<double>(item.tiles.size()), std::vector<double>(item.tiles.size())};
    for (int64_t row = 0; row < ask.tokens * ask.group; ++row) {
        const Exact exact = exact_row(head, item, ask, q, row / ask.group, row % ask.group);
        for (size_t i = 0; i < item.tiles.size(); ++i) {
            double page = 0;
            for (size_t t = 0; t < size_t(page_tokens); ++t) {
                const double p = exact.p[i][t];
                page += p;
                expected.bound[i] += p > 0 ? (exact.p_bound[i][t] + p * std::expm1(exact.lse_bound)) * 0x1p30 : 0.0;
            }
            expected.mass[i] += page * 0x1p30;
            expected.bound[i] += page > 0 ? page * rounding_of(32) * 0x1p30 + 0.5 : 0.0;
        }
    }
    return expected;
}

// Runs of the item that tiles describe: all but sinks that it does not have.
void check_pages(Head& head, Item& item, const Ask& ask, const std::vector<float>& q) {
    const Answer without = attend(head, item, ask, q);
    Pages pages = attend_pages(head, item, ask, q);
    REQUIRE(std::memcmp(pages.answer.states.data(), without.states.data(), without.states.size() * sizeof(float)) == 0);
    const std::vector<int64_t> counters = page_mass(head, item, ask, pages, without.lse);
    const std::vector<int64_t> tokens = summed_mass(head, item, ask, q, without.lse);
    const Expected expected = expected_of(head, item, ask, q);
    const size_t first = item.item.sinks ? 0 : 1;
    REQUIRE(item.tiles.size() + first == counters.size());
    REQUIRE((first == 0 || counters[0] == 5));
    const double rows = double(ask.tokens * ask.group);
    double worst = 0, worst_of_pass = 0;
    for (size_t i = first; i < counters.size(); ++i) {
        const double found = double(counters[i] - 5), bound = expected.bound[i - first];
        REQUIRE((bound > 0 || found == 0));
        REQUIRE((expected.mass[i - first] <= bound || found > 0));
        worst = std::max(worst, bound > 0 ? std::abs(found - expected.mass[i - first]) / bound : 0.0);
        // The pass rounds each token, has the same logits, and an exponential of its own.
        const double room = rows * (page_tokens + 1) * 0.5 + double(tokens[i]) * 2 * rounding_of(32);
        worst_of_pass = std::max(worst_of_pass, std::abs(found - double(tokens[i])) / room);
    }
    CHECK(worst <= 1.0);
    CHECK(worst_of_pass <= 1.0);
}

bool offers_page_sums(const KernelTable& table) { return offers_mass(table) && table.page_mass != nullptr; }

}  // namespace

TEST_CASE("page sums: of every codec and group the mass of a page is that of its tokens, and no state changes a bit") {
    for_each_table([](const KernelTable& table) {
        int combination = 0;
        for (const std::string& codec : grid_codecs()) {
            for (const int dim : {64, 96, 128}) {
                if (!fits(codec, dim, dim) || !offers(table, codec, dim, dim) || !offers_page_sums(table)) {
                    continue;
                }
                Head head(table, codec, dim, dim, 4, unsigned(dim));
                const int64_t n = head.sinks() + 215;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 2);
                for (const auto& [tokens, group] : {std::pair{1, 1}, {1, 4}, {3, 5}, {9, 8}}) {
                    for (const bool prompt_class : {false, true}) {
                        if (combination++ % grid_stride() != 0) {
                            continue;
                        }
                        INFO(std::string(table.name), " ", codec, " dim ", dim, " tokens ", tokens, " group ", group, " prompt ",
                             prompt_class);
                        const Ask ask{.tokens = tokens, .group = group, .first_position = n - tokens, .prompt_class = prompt_class};
                        check_pages(head, *item, ask, gaussian(size_t(tokens * group * dim), unsigned(group)));
                    }
                }
            }
        }
    });
}

TEST_CASE("page sums: masks, explicit positions, dropped pages, windows, soft caps, counts and sink logits count as in attend") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : {"fp16", "int8", "int4", "k3v2", "kivi2", "k=int4.tok.rot,v=int4.ch.g32"}) {
            if (!offers(table, codec, 64, 64) || !offers_page_sums(table)) {
                continue;
            }
            for (const bool prompt_class : {false, true}) {
                Head head(table, codec, 64, 64, 5);
                head.set_live(0, 0xfff0ffffffff0fffu);
                head.drop(1);
                std::array<int64_t, page_tokens> positions{};
                for (int64_t t = 0; t < page_tokens; ++t) {
                    positions[size_t(t)] = head.sinks() + 128 + 2 * t;
                }
                head.set_positions(2, positions);
                const int64_t n = head.sinks() + 290;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 3);
                const std::vector<float> logit{1.0f}, q = gaussian(5 * 3 * 64, 7);
                Ask ask{.tokens = 5, .group = 3, .first_position = n - 5, .prompt_class = prompt_class, .sink_logit = logit.data()};
                for (const int64_t window : {INT64_MAX, int64_t{150}, int64_t{66}, int64_t{1}}) {
                    for (const float cap : {0.0f, 2.0f}) {
                        INFO(std::string(table.name), " ", std::string(codec), " prompt ", prompt_class, " window ", window, " cap ",
                             cap);
                        ask.sliding_window = window, ask.soft_cap = cap;
                        check_pages(head, *item, ask, q);
                    }
                }
                ask.sliding_window = INT64_MAX, ask.causal_offset = -2 * n;
                check_pages(head, *item, ask, q);
                ask.causal_offset = -70;
                check_pages(head, *item, ask, q);
                if (offers_counts(table)) {
                    give_counts(item.get(), 3);
                    check_pages(head, *item, ask, q);
                }
            }
        }
    });
}

TEST_CASE("page sums: a lone token's page gets exactly 2^30, a row that saw nothing adds nothing, and nothing exceeds 2^30") {
    for_each_table([](const KernelTable& table) {
        for (const char* codec : {"fp16", "int8", "int4", "kivi2"}) {
            if (!offers(table, codec, 64, 64) || !offers_page_sums(table)) {
                continue;
            }
            for (const bool prompt_class : {false, true}) {
                INFO(std::string(table.name), " ", std::string(codec), " prompt ", prompt_class);
                Head head(table, codec, 64, 64, 2);
                const int64_t n = head.sinks() + 100;
                const auto item = head.item_of(n, head.format().lossless ? 0 : 1);
                Ask ask{.first_position = n - 1, .prompt_class = prompt_class, .sliding_window = 1};
                const std::vector<float> q = gaussian(64, 7);
                Pages lone = attend_pages(head, *item, ask, q);
                std::vector<int64_t> expected(size_t(item->item.runs()), 5);
                expected.back() += int64_t{1} << 30;
                CHECK(page_mass(head, *item, ask, lone, lone.answer.lse) == expected);

                ask.sliding_window = INT64_MAX;
                Pages all = attend_pages(head, *item, ask, q);
                expected.back() = 5;
                CHECK(page_mass(head, *item, ask, all, {-HUGE_VALF}) == expected);
                CHECK(page_mass(head, *item, ask, all, {NAN}) == expected);
                // An lse far below the logits cannot come from attend; mass is clamped all the same.
                for (const int64_t counter : page_mass(head, *item, ask, all, {-80.0f})) {
                    REQUIRE((counter == 5 || counter == 5 + (int64_t{1} << 30)));
                }
            }
        }
    });
}

TEST_CASE("page sums: a row whose query is no number adds nothing and leaves its neighbours alone") {
    for_each_table([](const KernelTable& table) {
        if (!offers(table, "int4", 64, 64) || !offers_page_sums(table)) {
            return;
        }
        for (const bool prompt_class : {false, true}) {
            INFO(std::string(table.name), " prompt ", prompt_class);
            Head head(table, "int4", 64, 64, 3);
            const int64_t n = head.sinks() + 190;
            const auto item = head.item_of(n, 2);
            const Ask ask{.tokens = 1, .group = 3, .first_position = n - 1, .prompt_class = prompt_class};
            std::vector<float> q = gaussian(3 * 64, 7);
            Pages whole = attend_pages(head, *item, ask, q);
            std::vector<float> lse = whole.answer.lse;
            lse[1] = -HUGE_VALF;
            const std::vector<int64_t> neighbours = page_mass(head, *item, ask, whole, lse);
            q[64 + 5] = NAN;
            Pages broken = attend_pages(head, *item, ask, q);
            REQUIRE(std::isnan(broken.answer.lse[1]));
            CHECK(page_mass(head, *item, ask, broken, broken.answer.lse) == neighbours);
        }
    });
}

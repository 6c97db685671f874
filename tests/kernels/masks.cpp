// What a query sees: causality, sliding windows, live masks, explicit positions, dropped pages, and memory that must never matter.
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>

#include "tests/kernels/attend_run.h"

using namespace kvc_test;

namespace {

const char* const codecs[] = {"fp16", "int8", "int4", "k3v2", "kivi2", "k=int4.tok.rot,v=int4.ch.g32"};

int64_t coded_pages(const Head& head) { return head.format().lossless ? 0 : 2; }

// Runs a check in both kernel classes, for every table and codec, on a head of 4 pages.
template <class Check>
void for_each_head(const Check& check) {
    for_each_table([&](const KernelTable& table) {
        for (const char* codec : codecs) {
            if (!offers(table, codec, 64, 64)) {
                continue;
            }
            for (const bool prompt_class : {false, true}) {
                INFO(std::string(table.name), " ", std::string(codec), " prompt ", prompt_class);
                Head head(table, codec, 64, 64, 4);
                check(head, prompt_class);
            }
        }
    });
}

}  // namespace

TEST_CASE("masks: a sliding window covers exactly its newest tokens, whatever form they are in") {
    for_each_head([](Head& head, bool prompt_class) {
        const int64_t n = head.sinks() + 215;
        const auto item = head.item_of(n, coded_pages(head));
        for (const int64_t window :
             {int64_t{1}, int64_t{2}, int64_t{63}, int64_t{64}, int64_t{65}, int64_t{130}, n - 1, n, n + 1, INT64_MAX - 1}) {
            INFO("window ", window);
            const Ask ask{.tokens = 3, .group = 2, .first_position = n - 3, .prompt_class = prompt_class, .sliding_window = window};
            const std::vector<float> q = gaussian(3 * 2 * 64, unsigned(window % 1000));
            check_answer(head, *item, ask, q, attend(head, *item, ask, q));
        }
    });
}

TEST_CASE("masks: a causal offset hides the newest tokens, down to none") {
    for_each_head([](Head& head, bool prompt_class) {
        const int64_t n = head.sinks() + 215;
        const auto item = head.item_of(n, coded_pages(head));
        for (const int64_t offset : {int64_t{0}, int64_t{-1}, int64_t{-64}, -(n - 1), -n, -2 * n}) {
            INFO("offset ", offset);
            const Ask ask{.group = 2, .first_position = n - 1, .prompt_class = prompt_class, .causal_offset = offset};
            const std::vector<float> q = gaussian(2 * 64, 5);
            const Answer answer = attend(head, *item, ask, q);
            check_answer(head, *item, ask, q, answer);
            CHECK((answer.lse[0] == -HUGE_VALF) == (offset <= -n));
        }
    });
}

TEST_CASE("masks: one visible token gives its value back") {
    for_each_head([](Head& head, bool prompt_class) {
        const int64_t n = head.sinks() + 200;
        const auto item = head.item_of(n, coded_pages(head));
        for (const int64_t position : {int64_t{0}, head.sinks(), head.sinks() + 64, head.sinks() + 127, n - 1}) {
            const Ask ask{.first_position = position, .prompt_class = prompt_class, .sliding_window = 1};
            const std::vector<float> q = gaussian(64, 2);
            const Answer answer = attend(head, *item, ask, q);
            check_answer(head, *item, ask, q, answer);
        }
    });
}

TEST_CASE("masks: dead tokens, dropped pages and whole dead pages do not count") {
    std::mt19937_64 random(5);
    for_each_head([&](Head& head, bool prompt_class) {
        head.set_live(0, random() & random());
        head.set_live(1, 0);
        head.set_live(2, uint64_t{1} << 37);
        head.drop(3);
        const int64_t n = head.sinks() + 256;
        for (const int64_t coded : {int64_t{0}, coded_pages(head), head.format().lossless ? int64_t{0} : int64_t{4}}) {
            const auto item = head.item_of(n, coded);
            const Ask ask{.group = 3, .first_position = n - 1, .prompt_class = prompt_class};
            const std::vector<float> q = gaussian(3 * 64, 6);
            check_answer(head, *item, ask, q, attend(head, *item, ask, q));
        }
    });
}

TEST_CASE("masks: explicit positions decide what is seen") {
    for_each_head([](Head& head, bool prompt_class) {
        head.start_at(1000);
        std::array<int64_t, page_tokens> positions{};
        for (int64_t t = 0; t < page_tokens; ++t) {
            positions[size_t(t)] = 1004 + t * t / 20;
        }
        head.set_positions(0, positions);
        head.set_live(0, 0x0fffffffffffffffu);  // positions of dead tokens mean nothing
        positions.fill(INT64_MAX);
        for (int64_t t = 0; t < 10; ++t) {
            positions[size_t(t)] = 1175 + 3 * t;
        }
        head.set_positions(1, positions);
        head.set_live(1, 0x3ff);
        const auto item = head.item_of(head.sinks() + 215, coded_pages(head));
        for (const int64_t position : {1003, 1004, 1100, 1175, 1177, 1178, 1201, 1202, 1212}) {
            for (const int64_t window : {int64_t{30}, INT64_MAX}) {
                INFO("position ", position, " window ", window);
                const Ask ask{.tokens = 2, .first_position = position, .prompt_class = prompt_class, .sliding_window = window};
                const std::vector<float> q = gaussian(2 * 64, 6);
                check_answer(head, *item, ask, q, attend(head, *item, ask, q));
            }
        }
    });
}

TEST_CASE("masks: positions beyond 2^32 are positions") {
    for_each_head([](Head& head, bool prompt_class) {
        head.start_at(int64_t{1} << 52);
        const int64_t n = head.sinks() + 130;
        const auto item = head.item_of(n, coded_pages(head) ? 1 : 0);
        const Ask ask{.first_position = head.first_position() + n - 1, .prompt_class = prompt_class, .sliding_window = 100};
        const std::vector<float> q = gaussian(64, 6);
        const Answer answer = attend(head, *item, ask, q);
        check_answer(head, *item, ask, q, answer);
        CHECK(answer.lse[0] > -HUGE_VALF);
    });
}

TEST_CASE("masks: what slots behind the visible tokens hold never matters, bit for bit") {
    for_each_head([](Head& head, bool prompt_class) {
        const int64_t n = head.sinks() + 128 + 37;
        const auto poisoned = head.item_of(n, coded_pages(head));  // NaN behind token n
        const auto filled = head.item_of(head.sinks() + 256, coded_pages(head));
        const Ask ask{.tokens = 4, .group = 2, .first_position = n - 4, .prompt_class = prompt_class};
        const std::vector<float> q = gaussian(4 * 2 * 64, 6);
        const Answer a = attend(head, *poisoned, ask, q), b = attend(head, *filled, ask, q);
        CHECK(std::memcmp(a.states.data(), b.states.data(), a.states.size() * sizeof(float)) == 0);
    });
}

TEST_CASE("masks: an item without runs is an empty state") {
    for_each_head([](Head& head, bool prompt_class) {
        const auto item = head.item_of(0, 0);
        const Ask ask{.tokens = 2, .group = 2, .prompt_class = prompt_class};
        const Answer answer = attend(head, *item, ask, gaussian(2 * 2 * 64, 6));
        for (int row = 0; row < 4; ++row) {
            const float* state = answer.states.data() + row * 66;
            for (int d = 0; d < 64; ++d) {
                REQUIRE(state[d] == 0.0f);
                REQUIRE(answer.out[size_t(row * 64 + d)] == 0.0f);
            }
            CHECK(state[64] == -HUGE_VALF);
            CHECK(state[65] == 0.0f);
            CHECK(answer.lse[size_t(row)] == -HUGE_VALF);
        }
    });
}

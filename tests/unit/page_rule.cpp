#include "core/store/page_rule.h"

#include <doctest/doctest.h>

using namespace kvc;

namespace {

// The rule as semantics states it, token by token.
bool seen_in_16_bits(const PageRule& rule, int64_t query, int64_t token) {
    const int64_t length = query + 1;
    const int64_t boundary = rule.sinks + 64 * (std::max<int64_t>(0, length - rule.sinks - rule.window) / 64);
    return token < rule.sinks || token >= boundary;
}

}  // namespace

TEST_CASE("page rule: agrees with the visibility of every token") {
    for (const auto& [sinks, window] : {std::pair{0, 0}, {4, 128}, {4, 64}, {1, 33}, {64, 0}}) {
        PageRule rule;
        rule.sinks = sinks;
        rule.window = window;
        for (int64_t query = 0; query < 500; query++) {
            for (int64_t token = rule.sinks; token <= query; token++) {
                const bool fp16 = rule.page_of(token) >= rule.first_fp16_page(query + 1);
                CHECK(fp16 == seen_in_16_bits(rule, query, token));
            }
            const int64_t first = rule.page_start(rule.first_fp16_page(query + 1));
            const int64_t newest = query + 1 - first;
            if (first > rule.sinks) {
                CHECK(newest >= window);
                CHECK(newest <= window + 63);
            }
        }
    }
}

TEST_CASE("page rule: a step's need does not depend on how the stream was cut before") {
    PageRule rule;
    rule.sinks = 4;
    rule.window = 128;
    rule.spare = 1;
    for (int64_t stride : {1, 7, 64, 65, 300}) {
        PageState state;
        for (int64_t length = 0; length < 1000; length += stride) {
            const StepNeed need = step_need(rule, state, length, stride, false);
            CHECK(need.window + need.staged <= ceil_div(rule.window + 63 + stride, 64) + rule.spare);
            CHECK(need.codes <= ceil_div(stride, 64));
            CHECK(need.sinks == (length == 0));
            state = settle(rule, state, length + stride);
            CHECK(state == settle(rule, PageState{}, length + stride));
        }
    }
}

TEST_CASE("page rule: only pages that arrive and leave the window within the step are staged") {
    PageRule rule;
    rule.sinks = 4;
    rule.window = 128;
    const StepNeed need = step_need(rule, PageState{}, 0, 1000, false);
    CHECK(need.codes == (1000 - 4 - 128) / 64);
    CHECK(need.staged == need.codes);
    CHECK(need.window == ceil_div(1000 - 4, 64) - need.staged);
    const StepNeed kept = step_need(rule, PageState{}, 0, 1000, true);
    CHECK(kept.staged == 0);
    CHECK(kept.window == ceil_div(1000 - 4, 64));
    CHECK(step_need(rule, PageState{}, 0, 0, false).window == 0);
}

TEST_CASE("page rule: a sliding window lets go of what no query sees") {
    PageRule rule;
    rule.sinks = 0;
    rule.window = 64;
    rule.sliding_window = 512;
    PageState state;
    for (int64_t length = 1; length < 3000; length++) {
        state = settle(rule, state, length);
        const int64_t oldest_seen = std::max<int64_t>(0, length - rule.sliding_window + 1);
        CHECK(rule.page_start(state.first_held()) <= oldest_seen);
        CHECK(rule.page_start(state.first_held() + 1) > oldest_seen);
    }
}

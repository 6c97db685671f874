// Which pages a layer of a sequence holds, and in which form: the arithmetic of the visibility rule, shared by steps and planner.
//
// Token indices count from the sequence's first token. Tokens below S are sinks; page k holds tokens S + 64 k .. S + 64 k + 63.
// The query at index i sees page k in 16 bits iff k >= first_fp16_page(i + 1), otherwise its codes.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/base/size.h"
#include "core/codec/codec.h"

namespace kvc {

struct PageRule {
    int64_t sinks = 0;           // S
    int64_t window = 0;          // W
    int64_t spare = 0;           // 16-bit pages kept below the window; 0 for lossless codecs, which lose nothing
    int64_t sliding_window = 0;  // newest tokens that a query can see; 0: all
    bool lossless = false;       // codes are the 16-bit records themselves

    int64_t first_fp16_page(int64_t length) const { return std::max<int64_t>(0, length - sinks - window) / page_tokens; }
    // Pages begun by a sequence of that length.
    int64_t pages(int64_t length) const { return length <= sinks ? 0 : ceil_div(length - sinks, page_tokens); }
    int64_t page_of(int64_t index) const { return (index - sinks) / page_tokens; }
    int64_t page_start(int64_t page) const { return sinks + page * page_tokens; }
    // The first page of which the next query, or one after a rollback into the spare pages, can see a token.
    int64_t first_seen_page(int64_t length) const {
        if (sliding_window == 0) return 0;
        const int64_t first_token = length - sliding_window + 1 - page_tokens * spare;
        return std::max<int64_t>(0, first_token - sinks) / page_tokens;
    }
};

// Page ranges of one layer: codes [first_coded, coded_end), 16 bits [first_window, pages(length)).
struct PageState {
    int64_t first_coded = 0, coded_end = 0, first_window = 0;

    int64_t first_held() const { return std::min(first_coded, first_window); }
    bool operator==(const PageState&) const = default;
};

// The ranges once the sequence has reached `length`.
inline PageState settle(const PageRule& rule, PageState state, int64_t length) {
    const int64_t seen = rule.first_seen_page(length);
    state.coded_end = std::max({state.coded_end, rule.first_fp16_page(length), seen});
    state.first_window = std::max({state.first_window, state.coded_end - rule.spare, seen});
    state.first_coded = std::max(state.first_coded, seen);
    return state;
}

// Records that one kv head needs for a step of `count` tokens.
struct StepNeed {
    int64_t sinks = 0;   // sink records
    int64_t window = 0;  // 16-bit records that the sequence keeps at least until commit
    int64_t staged = 0;  // 16-bit records of pages that arrive and fall behind the window in this step: shared by all layers
    int64_t codes = 0;   // code records
};

inline StepNeed step_need(const PageRule& rule, const PageState& state, int64_t length, int64_t count, bool keep_all) {
    StepNeed need;
    if (count == 0) return need;
    const PageState after = settle(rule, state, length + count);
    const int64_t first_new = std::max(rule.pages(length), state.first_window);
    const int64_t new_pages = rule.pages(length + count) - first_new;
    need.sinks = rule.sinks > 0 && length == 0 ? 1 : 0;
    if (!keep_all && !rule.lossless) need.staged = std::clamp<int64_t>(after.first_window - first_new, 0, new_pages);
    need.window = new_pages - need.staged;
    need.codes = rule.lossless ? 0 : after.coded_end - state.coded_end;
    return need;
}

}  // namespace kvc

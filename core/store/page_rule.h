// Which pages a layer of a sequence holds, and in which form: the arithmetic of the visibility rule, shared by steps and planner.
//
// Token indices count from the sequence's first token. Tokens below S are sinks; page k holds tokens S + 64 k .. S + 64 k + 63.
// The query at index i sees page k in 16 bits iff k >= first_fp16_page(i + 1), otherwise its codes. Where a sequence keeps only its newest
// tokens (StreamingLLM), it sees page k iff k >= first_kept_page(i): both are rules of positions that know nothing of steps.
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
};

// Page ranges of one layer: codes [first_coded, coded_end), 16 bits [first_window, pages(length)).
struct PageState {
    int64_t first_coded = 0, coded_end = 0, first_window = 0;
    int64_t kept = 0;  // newest tokens that a policy by position keeps, in whole pages; 0: all

    // The first page that the query at that index sees.
    int64_t first_kept_page(const PageRule& rule, int64_t index) const {
        return kept == 0 ? 0 : std::max<int64_t>(0, index - kept - rule.sinks) / page_tokens;
    }
    // Newest tokens that the next query needs, itself included; 0: all.
    int64_t needed(const PageRule& rule) const {
        if (kept == 0 || rule.sliding_window == 0) return kept == 0 ? rule.sliding_window : kept + 1;
        return std::min(rule.sliding_window, kept + 1);
    }
    // The first page of which the query at that index sees a token; what is held below it is held for rollbacks alone.
    int64_t first_seen_page(const PageRule& rule, int64_t index) const {
        const int64_t newest = needed(rule);
        return newest == 0 ? 0 : std::max<int64_t>(0, index - newest + 1 - rule.sinks) / page_tokens;
    }
    // A policy's budget grew: pages from the first one seen on left under a smaller one, and no query will find them again.
    bool holds_less(const PageRule& rule, int64_t length) const { return first_seen_page(rule, length) < first_held(); }
    int64_t first_held() const { return std::min(first_coded, first_window); }
    bool operator==(const PageState&) const = default;
};

// The ranges once the sequence has reached `length`.
inline PageState settle(const PageRule& rule, PageState state, int64_t length) {
    // The first page of which the next query, or one after a rollback into the spare pages, can see a token.
    const int64_t needed = state.needed(rule);
    const int64_t first_token = needed == 0 ? 0 : length - needed + 1 - page_tokens * rule.spare;
    const int64_t seen = std::max<int64_t>(0, first_token - rule.sinks) / page_tokens;
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

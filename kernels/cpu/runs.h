// The runs of an item: its sinks, coded pages and window pages, each at most 64 tokens, and who sees which of them.
#pragma once
#include <cstring>

#include "core/backend/kernel_table.h"
#include "kernels/cpu/visible.h"

namespace kvc {
namespace {

struct Run {
    const PageEntry* entry;  // nullptr: sinks
    KernelTable::Form form;
    int64_t first;     // position of its first token, if it has no side record
    uint64_t present;  // tokens that it holds
    int64_t* mass;     // of its tokens, or nullptr
    PageSum* sums;     // of the item's rows, or nullptr
    const std::byte* record;
    const std::byte* next;  // the record that follows in the item; its own if none does
    const float* bias;      // [64], added to the logits of its tokens; nullptr: nothing is
};

inline uint64_t seen_by(const AttendParams& params, const Run& run, int64_t i) {
    const uint64_t seen = run.entry ? visible_tokens(params, *run.entry, run.first, i) : visible_run(params, run.first, i);
    return seen & run.present;
}

inline bool seen_by_any(const AttendParams& params, const AttendItem& item, const Run& run) {
    for (int64_t t = 0; t < item.tokens; ++t) {
        if (seen_by(params, run, item.first_position + t)) {
            return true;
        }
    }
    return false;
}

// The first of ascending counts at a position or above it.
inline const TokenCount* first_count(const TokenCount* from, const TokenCount* end, int64_t position) {
    while (from != end) {
        const TokenCount* middle = from + (end - from) / 2;
        if (middle->position < position) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from;
}

// Writes what the counts of a run's tokens add to their logits; nullptr if that is nothing. Slots of other tokens may get anything finite.
inline const float* bias_of(const AttendParams& params, const AttendItem& item, const Run& run, float* bias) {
    const TokenCount* next = item.counts;
    const TokenCount* const end = next + item.n_counts;
    bool any = false;
    std::memset(bias, 0, page_tokens * sizeof *bias);
    if (!run.entry || !run.entry->side) {
        for (next = first_count(next, end, run.first); next != end && next->position < run.first + page_tokens; ++next) {
            bias[next->position - run.first] = next->log_count;
            any = any || next->log_count != 0.0f;
        }
        return any ? bias : nullptr;
    }
    const auto* side = reinterpret_cast<const PageSide*>(params.arena.at(run.entry->side, side_bytes));
    for (uint64_t rest = run.entry->live; rest; rest &= rest - 1) {
        const int t = __builtin_ctzll(rest);
        next = first_count(next, end, side->positions[t]);
        if (next != end && next->position == side->positions[t]) {
            bias[t] = next->log_count;
            any = any || next->log_count != 0.0f;
        }
    }
    return any ? bias : nullptr;
}

// Calls visit(run) for sinks, coded pages and window pages, in the order of their positions.
template <class Visit>
void for_each_run(const AttendParams& params, const AttendItem& item, const MassItem* mass, const Visit& visit) {
    const LayerFormat& f = *params.format;
    Run run{};
    alignas(64) float bias[page_tokens];
    // A run is visited when its successor is known, so that it can be fetched meanwhile.
    const auto follow = [&](const Run& next) {
        if (run.record) {
            run.next = next.record ? next.record : run.record;
            run.bias = item.n_counts > 0 ? bias_of(params, item, run, bias) : nullptr;
            visit(run);
        }
        run = next;
    };
    const auto sums_of_run = [&](int64_t i) { return item.page_sums ? item.page_sums + i * item.tokens * params.group : nullptr; };
    if (item.sinks) {
        follow({nullptr, KernelTable::Form::sinks, item.sinks_position, bits_between(0, item.sink_tokens), mass ? mass->sinks : nullptr,
                sums_of_run(0), params.arena.at(item.sinks, f.sink_bytes), nullptr, nullptr});
    }
    int64_t i = 0;
    const auto pages = [&](KernelTable::Form form, const PageEntry* entries, int64_t n, int64_t first, int64_t* counters,
                           int64_t bytes) {
        for (int64_t e = 0; e < n; ++e) {
            i++;
            if (entries[e].record) {
                follow({entries + e, form, first + e * page_tokens, all_live, counters ? counters + e * page_tokens : nullptr,
                        sums_of_run(i), params.arena.at(entries[e].record, bytes), nullptr, nullptr});
            }
        }
    };
    pages(KernelTable::Form::codes, item.coded, item.n_coded, item.coded_position, mass ? mass->coded : nullptr, f.code_bytes);
    pages(KernelTable::Form::window, item.window, item.n_window, item.window_position, mass ? mass->window : nullptr, f.window_bytes);
    follow(Run{});
}

}  // namespace
}  // namespace kvc

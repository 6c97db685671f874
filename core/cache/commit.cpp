// Commit: what the step stored becomes the sequences' content. Nothing here allocates or fails once the checks have passed.
#include <algorithm>
#include <array>
#include <bit>

#include "core/cache/cache.h"
#include "core/cache/step.h"

namespace kvc {
namespace {

template <class T>
void erase_front(std::vector<T>& values, int64_t count) {
    values.erase(values.begin(), values.begin() + std::min<int64_t>(count, int64_t(values.size())));
}

}  // namespace

// Brings one head's tables from page ranges `before` to `after`: new codes become visible, what fell behind is released.
void Step::publish_head(const Layer& layer, const StepNeed& need, const PageState& before, const PageState& after, int64_t old_length,
                        int64_t length, HeadPages& head) {
    Arena& arena = *cache_.arena_;
    const PageRule& rule = layer.rule;
    for (size_t e = size_t(after.coded_end - before.first_coded); e < head.coded.size(); e++) {
        if (!rule.lossless) arena.release(head.coded[e].record);  // codes of pages whose last tokens were not accepted
    }
    head.coded.resize(size_t(after.coded_end - before.first_coded));
    for (int64_t page = before.first_coded; page < after.first_coded; page++) {
        cache_.release_entry(head.coded[size_t(page - before.first_coded)]);
    }
    erase_front(head.coded, after.first_coded - before.first_coded);

    const int64_t first_new = std::max(rule.pages(old_length), before.first_window);
    const int64_t window_end = std::max(rule.pages(length), after.first_window);
    for (int64_t page = before.first_window; page < before.first_window + int64_t(head.window.size()); page++) {
        const bool kept = page >= after.first_window && page < window_end;
        const bool staged = page >= first_new && page < first_new + need.staged;
        const bool renamed = rule.lossless && page < after.coded_end;  // the record went over into the table of codes
        if (!kept && !staged && !renamed) arena.release(head.window[size_t(page - before.first_window)].record);
    }
    head.window.resize(std::min(head.window.size(), size_t(window_end - before.first_window)));
    erase_front(head.window, after.first_window - before.first_window);
}

void Step::publish_layer(size_t layer, size_t b, int64_t length) {
    Sequence& sequence = *sequences_[b].sequence;
    LayerPages& pages = sequence.layers[layer];
    const Layer& shape = cache_.layers_[layer];
    const PageState after = settle(shape.rule, pages.state, length);
    for (HeadPages& head : pages.heads) {
        publish_head(shape, layers_[layer].needs[b], pages.state, after, sequence.length, length, head);
    }
    pages.state = after;
}

// The step's mass, token by token.
void Step::add_token_mass(const PageRule& rule, const Sequence& sequence, const LayerPages& pages, const HeadMass& added,
                          HeadPages& head) {
    const auto add = [&](int64_t index, int64_t mass) {
        if (mass != 0) head.mass[size_t(index)] += mass;
    };
    for (size_t t = 0; t < added.sinks.size(); t++)
        add(int64_t(t), added.sinks[t]);
    const auto add_pages = [&](const std::vector<PageEntry>& table, int64_t first_page, const std::vector<int64_t>& mass) {
        for (size_t e = 0; e < table.size(); e++) {
            const PageSide* side = table[e].side ? &cache_.arena_->side(table[e].side) : nullptr;
            for (int64_t t = 0; t < page_tokens; t++) {
                const int64_t implicit = rule.page_start(first_page + int64_t(e)) + t;
                add(side ? side->positions[t] - sequence.first_position : implicit, mass[e * page_tokens + size_t(t)]);
            }
        }
    };
    add_pages(head.coded, pages.state.first_coded, added.coded);
    add_pages(head.window, pages.state.first_window, added.window);
}

// The step's mass by pages: what a page has got so far is shared evenly among the tokens that it holds now, each time anew, so that it
// depends on their sum alone and not on the steps in which it came. What cannot be divided goes to the newest ones, who win ties, too.
void Step::add_page_mass(const PageRule& rule, const Sequence& sequence, const LayerPages& pages, const HeadMass& added,
                         HeadPages& head) {
    const int64_t length = int64_t(head.mass.size());
    const auto share = [&](int64_t n, const auto& token, int64_t mass) {
        int64_t* const all = head.mass.data();
        for (int64_t i = 0; i < n; i++)
            mass += all[token(i)];
        const int64_t part = n > 0 ? mass / n : 0, whole = n > 0 ? n - mass % n : 0;
        for (int64_t i = 0; i < n; i++)
            all[token(i)] = part + (i >= whole);
    };
    const auto add_page = [&](const PageEntry& entry, int64_t first, int64_t mass) {
        if (!entry.record || (mass == 0 && first + page_tokens <= sequence.length)) return;  // as even as it was
        if (!entry.side && entry.live == all_live) {
            const int64_t n = std::clamp<int64_t>(length - first, 0, page_tokens);
            return share(n, [&](int64_t i) { return first + i; }, mass);
        }
        const PageSide* const side = entry.side ? &cache_.arena_->side(entry.side) : nullptr;
        std::array<int64_t, page_tokens> tokens;
        int64_t n = 0;
        for (uint64_t live = entry.live; live; live &= live - 1) {
            const int t = std::countr_zero(live);
            const int64_t index = side ? side->positions[t] - sequence.first_position : first + t;
            if (index < length) tokens[size_t(n++)] = index;
        }
        share(n, [&](int64_t i) { return tokens[size_t(i)]; }, mass);
    };
    share(std::min(rule.sinks, length), [](int64_t i) { return i; }, added.sinks[0]);
    for (size_t e = 0; e < head.coded.size(); e++)
        add_page(head.coded[e], rule.page_start(pages.state.first_coded + int64_t(e)), added.coded[e]);
    for (size_t e = 0; e < head.window.size(); e++)
        add_page(head.window[e], rule.page_start(pages.state.first_window + int64_t(e)), added.window[e]);
}

// Adds the step's mass to the sequence's, by token index; before the tables change.
void Step::publish_mass(size_t layer, size_t b, int64_t length) {
    Sequence& sequence = *sequences_[b].sequence;
    LayerPages& pages = sequence.layers[layer];
    const PageRule& rule = cache_.layers_[layer].rule;
    for (size_t h = 0; h < pages.heads.size(); h++) {
        HeadPages& head = pages.heads[h];
        const HeadMass& added = layers_[layer].mass[b * pages.heads.size() + h];
        if (sequences_[b].observation.fresh) std::fill(head.mass.begin(), head.mass.end(), 0);
        if (sequences_[b].fades()) {
            for (int64_t& mass : head.mass)
                mass /= 2;
        }
        head.mass.resize(size_t(length));
        if (by_pages_)
            add_page_mass(rule, sequence, pages, added, head);
        else
            add_token_mass(rule, sequence, pages, added, head);
    }
}

// What the device has found wrong by now is known; what it may still find is noted. begin reserved the room.
void Step::publish_unsettled(size_t b, int64_t count) {
    Sequence& sequence = *sequences_[b].sequence;
    sequence.unsettled.push_back({first_tag_ + int64_t(b), sequence.length, count});
    cache_.settle_sequence(sequence);
    cache_.unsettled_++;
}

Status Step::check_commit(std::span<const int64_t> accepted) const {
    KVC_TRY(check_open("step_commit"));
    KVC_TRY(cache_.arena_->fault());
    if (!accepted.empty() && accepted.size() != sequences_.size()) {
        return fail(Code::argument, "commit: ", int64_t(accepted.size()), " accepted counts for ", int64_t(sequences_.size()),
                    " sequences");
    }
    for (size_t b = 0; b < accepted.size(); b++) {
        const int64_t count = sequences_[b].count;
        if (accepted[b] < 0 || accepted[b] > count) {
            return fail(Code::argument, "commit: accepted ", accepted[b], " of entry ", int64_t(b), " is out of range (0 .. ", count,
                        ")");
        }
        if (accepted[b] < count && !options_.partial_commit) {
            return fail(Code::argument, "commit: accepted ", accepted[b], " of ", count,
                        " tokens, but the step was begun without partial_commit");
        }
    }
    for (size_t i = 0; i < layers_.size(); i++) {
        if (!layers_[i].appended && tokens_ > 0) return fail(Code::order, "commit: layer ", int64_t(i), " was not appended");
    }
    return {};
}

Status Step::commit(std::span<const int64_t> accepted) {
    std::lock_guard call(mutex_);
    KVC_TRY(check_commit(accepted));
    if (recording_) return commit_recording();
    if (device_executor_) KVC_TRY(noted(device_executor_->may_end()));
    Result<Cache::Exclusive> lock = cache_.exclusive();
    if (!lock.ok()) return lock.status();
    if (options_.accumulate) KVC_TRY(cache_.synchronize_device());  // mass comes with it
    for (size_t b = 0; b < sequences_.size(); b++) {
        Sequence& sequence = *sequences_[b].sequence;
        const int64_t count = accepted.empty() ? sequences_[b].count : accepted[b];
        const int64_t length = sequence.length + count;
        for (size_t i = 0; i < layers_.size(); i++) {
            if (options_.accumulate && count > 0) publish_mass(i, b, length);
            if (!layers_[i].queries.empty() && count > 0) publish_queries(i, b);
            if (count > 0) publish_layer(i, b, length);
        }
        if (count == 0) continue;
        if (cache_.device_) publish_unsettled(b, count);
        sequence.length = length;
        cache_.counters_.tokens_appended += count;
        if (options_.accumulate) sequence.mass_queries = sequences_[b].queries_before() + sequences_[b].observation.queries;
        if (options_.accumulate || !layers_.front().queries.empty()) sequence.floor = length;
    }
    // What is left of the reservations belongs to sequences of which nothing was accepted.
    for (size_t b = 0; b < sequences_.size(); b++) {
        const int64_t count = accepted.empty() ? sequences_[b].count : accepted[b];
        for (size_t i = 0; i < layers_.size() && count > 0; i++)
            layers_[i].needs[b] = StepNeed{};
    }
    cut_reservations();
    close();
    for (size_t b = 0; b < sequences_.size(); b++) {
        const int64_t count = accepted.empty() ? sequences_[b].count : accepted[b];
        if (count > 0) cache_.act_after_commit(sequences_[b].id, *sequences_[b].sequence);
    }
    return {};
}

}  // namespace kvc

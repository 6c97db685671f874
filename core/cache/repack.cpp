#include "core/cache/repack.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <memory>
#include <numeric>

#include "core/base/size.h"
#include "core/codec/canonical.h"

namespace kvc {
namespace {

// One source page, decoded.
struct DecodedPage {
    std::vector<float> k, v;
    CanonicalPart k_codes, v_codes;
    uint64_t new_k = 0, new_v = 0;  // tokens with numbers that no codes are of
};

// Of a page at another rung than the new one nothing can move as it is.
std::unique_ptr<DecodedPage> decode(const RepackInput& input, size_t entry, int64_t rung) {
    const LayerFormat& format = input.rung(input.rung_of(entry));
    auto page = std::make_unique<DecodedPage>();
    page->k.resize(size_t(page_tokens * format.k_dim));
    page->v.resize(size_t(page_tokens * format.v_dim));
    std::vector<std::byte> room;
    const std::byte* record = input.arena.fetch(input.coded[entry].record, room);
    input.kernels.read(format, KernelTable::Form::codes, record, page->k.data(), page->v.data());
    if (!format.lossless) input.kernels.unpack(format, record, &page->k_codes, &page->v_codes);
    if (input.rung_of(entry) != rung) page->new_k = page->new_v = all_live;
    const auto put = [](const std::vector<float>& row, int dim, bool rotated, int slot, std::vector<float>* to) {
        float* const at = &(*to)[size_t(slot * dim)];
        std::copy_n(row.data(), dim, at);
        if (rotated) rotate(at, dim);
    };
    for (const FoldedToken& token : input.folded) {
        if (token.form != KernelTable::Form::codes || token.entry != entry) continue;
        put(token.v, format.v_dim, format.codec.v.rotate, token.slot, &page->v);
        page->new_v |= uint64_t{1} << token.slot;
        if (!token.new_key) continue;
        put(token.k, format.k_dim, format.codec.k.rotate, token.slot, &page->k);
        page->new_k |= uint64_t{1} << token.slot;
    }
    return page;
}

bool moves_as_is(const Codec& codec) { return !is_16_bit(codec.type) && codec.axis == Axis::token; }

// Copies one token of a part that is coded per token: its codes and its groups' scales and zero points.
void move_token(const Codec& codec, int dim, const CanonicalPart& from, int from_slot, int to_slot, CanonicalPart* to) {
    std::copy_n(from.codes + from_slot * dim, dim, to->codes + to_slot * dim);
    const int groups = int(group_count(codec, dim) / page_tokens);
    for (int g = 0; g < groups; g++) {
        to->scales[g * page_tokens + to_slot] = from.scales[g * page_tokens + from_slot];
        to->zeros[g * page_tokens + to_slot] = from.zeros[g * page_tokens + from_slot];
    }
}

// Codes of tokens that did not change, over those of the page that was coded anew. `from` holds the source of each slot.
void move_tokens(const LayerFormat& format, std::span<const DecodedPage* const> from, std::span<const int> slots, CanonicalPart* k,
                 CanonicalPart* v) {
    for (int t = 0; t < page_tokens; t++) {
        const DecodedPage& source = *from[size_t(t)];
        const int slot = slots[size_t(t)];
        if (moves_as_is(format.codec.k) && !(source.new_k >> slot & 1))
            move_token(format.codec.k, format.k_dim, source.k_codes, slot, t, k);
        if (moves_as_is(format.codec.v) && !(source.new_v >> slot & 1))
            move_token(format.codec.v, format.v_dim, source.v_codes, slot, t, v);
    }
}

void fill_page(const RepackInput& input, const std::vector<std::unique_ptr<DecodedPage>>& sources, int64_t rung, bool in_place,
               RepackedPage* page) {
    const LayerFormat& format = input.rung(rung);
    std::vector<float> k(size_t(page_tokens * format.k_dim)), v(size_t(page_tokens * format.v_dim));
    const DecodedPage* from[page_tokens];
    int slots[page_tokens];
    for (int t = 0; t < page_tokens; t++) {
        // Slots past the last token repeat it, so that they widen no group's range.
        const RepackedToken& token = page->tokens[std::min(size_t(t), page->tokens.size() - 1)];
        const DecodedPage& source = *sources[token.entry];
        float* k_row = &k[size_t(t * format.k_dim)];
        float* v_row = &v[size_t(t * format.v_dim)];
        std::copy_n(&source.k[size_t(token.slot * format.k_dim)], format.k_dim, k_row);
        std::copy_n(&source.v[size_t(token.slot * format.v_dim)], format.v_dim, v_row);
        if (format.codec.k.rotate) rotate(k_row, format.k_dim);  // store() rotates again
        if (format.codec.v.rotate) rotate(v_row, format.v_dim);
        from[t] = &source;
        slots[t] = token.slot;
    }
    std::vector<std::byte> window(size_t(format.window_bytes));
    const StoreParams store = {&format,     k.data(),      v.data(), Dtype::f32, format.k_dim, format.v_dim,
                               page_tokens, window.data(), false,    0,          true};
    input.kernels.store(store);
    if (format.lossless) {
        page->bytes = std::move(window);
        return;
    }
    page->bytes.resize(size_t(format.code_bytes));
    input.kernels.quantize({&format, window.data(), page->bytes.data()});
    auto k_new = std::make_unique<CanonicalPart>(), v_new = std::make_unique<CanonicalPart>();
    input.kernels.unpack(format, page->bytes.data(), k_new.get(), v_new.get());
    move_tokens(format, from, slots, k_new.get(), v_new.get());
    // A page whose keys stay where they are keeps their codes, whatever they were coded by.
    if (in_place && from[0]->new_k == 0) *k_new = from[0]->k_codes;
    input.kernels.pack(format, *k_new, *v_new, page->bytes.data());
}

bool moves_bit_for_bit(const LayerFormat& format) {
    return format.lossless || (moves_as_is(format.codec.k) && moves_as_is(format.codec.v));
}

RepackPlan gather_emptiest(std::vector<size_t> held, std::span<const uint64_t> live, int64_t bound) {
    const auto records = int64_t(held.size());
    std::stable_sort(held.begin(), held.end(), [&](size_t a, size_t b) { return std::popcount(live[a]) < std::popcount(live[b]); });
    RepackPlan plan;
    for (size_t e : held) {
        plan.sources.push_back(e);
        plan.tokens += std::popcount(live[e]);
        if (records - int64_t(plan.sources.size()) + ceil_div(plan.tokens, page_tokens) <= bound) break;
    }
    std::sort(plan.sources.begin(), plan.sources.end());
    plan.ends = {plan.sources.size()};
    return plan;
}

// With more than `bound` records for T tokens some two neighbours hold at most 2 T / bound tokens, which is a page or less.
RepackPlan join_neighbours(std::span<const size_t> held, std::span<const uint64_t> live, int64_t bound) {
    struct Run {  // of neighbours that share a page from now on
        size_t begin, end;
        int64_t tokens;
    };
    std::vector<Run> runs;
    for (size_t i = 0; i < held.size(); i++)
        runs.push_back({i, i + 1, std::popcount(live[held[i]])});
    while (int64_t(runs.size()) > bound) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < runs.size(); i++) {
            if (runs[i].tokens + runs[i + 1].tokens < runs[best].tokens + runs[best + 1].tokens) best = i;
        }
        assert(runs[best].tokens + runs[best + 1].tokens <= page_tokens);
        runs[best].end = runs[best + 1].end;
        runs[best].tokens += runs[best + 1].tokens;
        runs.erase(runs.begin() + std::ptrdiff_t(best) + 1);
    }
    RepackPlan plan;
    for (const Run& run : runs) {
        if (run.end - run.begin == 1) continue;
        plan.sources.insert(plan.sources.end(), held.begin() + std::ptrdiff_t(run.begin), held.begin() + std::ptrdiff_t(run.end));
        plan.ends.push_back(plan.sources.size());
        plan.tokens += run.tokens;
    }
    return plan;
}

}  // namespace

int64_t RepackInput::rung_of(size_t entry) const {
    int64_t r = int64_t(lower.size());
    if (r == 0) return 0;
    const int64_t bytes = arena.record_bytes(arena.class_of_record(coded[entry].record));
    while (r > 0 && lower[size_t(r - 1)].code_bytes != bytes)
        r--;
    return r;
}

int64_t record_bound(const LayerFormat& format, int64_t live) {
    return moves_bit_for_bit(format) ? ceil_div(9 * live, 8 * page_tokens) : ceil_div(2 * live, page_tokens);
}

RepackPlan plan_repack(const LayerFormat& format, std::span<const PageEntry> coded, std::span<const uint64_t> live) {
    std::vector<size_t> held;
    int64_t tokens = 0;
    for (size_t e = 0; e < coded.size(); e++) {
        if (live[e] == 0) continue;
        held.push_back(e);
        tokens += std::popcount(live[e]);
    }
    const int64_t bound = record_bound(format, tokens);
    if (int64_t(held.size()) <= bound) return {};
    return moves_bit_for_bit(format) ? gather_emptiest(std::move(held), live, bound) : join_neighbours(held, live, bound);
}

void choose_tokens(const RepackInput& input, RepackPlan* plan) {
    std::vector<RepackedToken> tokens;
    for (size_t e : plan->sources) {
        plan->rung = std::max(plan->rung, input.rung_of(e));
        const PageEntry& entry = input.coded[e];
        const PageSide* side = entry.side ? &input.arena.side(entry.side) : nullptr;
        for (int slot = 0; slot < page_tokens; slot++) {
            if (!(input.live[e] >> slot & 1)) continue;
            tokens.push_back({e, slot, side ? side->positions[slot] : input.first_position + int64_t(e) * page_tokens + slot});
        }
    }
    const auto earlier = [](const RepackedToken& a, const RepackedToken& b) { return a.position < b.position; };
    auto token = tokens.begin();
    size_t begin = 0;  // of the group's sources
    for (const size_t end : plan->ends) {
        const auto belongs_to_next = [&](const RepackedToken& t) { return t.entry > plan->sources[end - 1]; };
        const auto last = std::find_if(token, tokens.end(), belongs_to_next);
        std::sort(token, last, earlier);
        for (size_t source = begin; token != last; source++) {
            const auto next = token + std::min<std::ptrdiff_t>(page_tokens, last - token);
            RepackedPage page;
            page.entry = plan->sources[source];
            page.tokens.assign(token, next);
            plan->pages.push_back(std::move(page));
            token = next;
        }
        begin = end;
    }
}

void fill_repack(const RepackInput& input, RepackPlan* plan) {
    std::vector<std::unique_ptr<DecodedPage>> sources(input.coded.size());
    for (size_t e : plan->sources)
        sources[e] = decode(input, e, plan->rung);
    for (RepackedPage& page : plan->pages)
        fill_page(input, sources, plan->rung, false, &page);
}

std::vector<RepackedToken> page_of_live(size_t entry, uint64_t live) {
    std::vector<RepackedToken> tokens;
    for (int slot = 0; slot < page_tokens; slot++)
        tokens.push_back({entry, live >> slot & 1 ? slot : std::countr_zero(live), 0});
    return tokens;
}

std::vector<std::byte> fill_folded(const RepackInput& input, size_t entry) {
    std::vector<std::unique_ptr<DecodedPage>> sources(input.coded.size());
    const int64_t rung = input.rung_of(entry);
    sources[entry] = decode(input, entry, rung);
    RepackedPage page;
    page.tokens = page_of_live(entry, input.live[entry]);
    fill_page(input, sources, rung, true, &page);
    return std::move(page.bytes);
}

}  // namespace kvc

// Truncate and fork: both cut a copy of a sequence at a length. Whole pages are shared, the page that the cut goes through becomes
// a private 16-bit page again.
#include <algorithm>

#include "core/cache/cache.h"

namespace kvc {
namespace {

// So that differences of positions do not overflow.
Status check_position(const char* what, int64_t position) {
    return position >= 0 ? Status{} : fail(Code::range, what, ": length ", position, " is negative");
}

}  // namespace

// Lowest length (as an index) at which a cut equals "never happened".
int64_t Cache::floor_of(const Sequence& sequence) const {
    int64_t floor = sequence.floor;
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = layers_[i].rule;
        const PageState& state = sequence.layers[i].state;
        const bool only_codes =
            !rule.lossless && state.first_coded < std::min(state.coded_end, state.first_window);  // of some page that is held
        if (only_codes) floor = std::max(floor, rule.page_start(state.first_window) + rule.window);
        // The next query after the cut must find every token that it can see.
        if (state.needed(rule) > 0 && state.first_held() > 0 && !state.holds_less(rule, sequence.length)) {
            floor = std::max(floor, rule.page_start(state.first_held()) + state.needed(rule) - 1);
        }
    }
    return std::min(floor, sequence.length);
}

Status Cache::check_cut(const char* what, const Sequence& sequence, int64_t length, bool allow_inexact) const {
    const int64_t first = sequence.first_position;
    if (length < 0 || length > sequence.length) {
        return fail(Code::range, what, ": length ", first + length, " is out of range (", first, " .. ", first + sequence.length, ")");
    }
    const int64_t floor = floor_of(sequence);
    if (length >= floor) return {};
    if (!allow_inexact) return fail(Code::range, what, ": length ", first + length, " is below the exact floor ", first + floor);
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = layers_[i].rule;
        const PageState& state = sequence.layers[i].state;
        const int64_t first_held = state.first_held(), needed = state.needed(rule);
        if (needed == 0 || first_held == 0 || length <= rule.sinks) continue;
        const int64_t held = rule.page_start(first_held);
        if ((state.holds_less(rule, sequence.length) ? length : length - needed + 1) < held) {
            return fail(Code::range, what, ": length ", first + length, ": layer ", int64_t(i), " holds no tokens below ", first + held,
                        " (the next query needs ", needed, ")");
        }
    }
    return {};
}

void Cache::release_entry(const PageEntry& entry) {
    if (entry.record) arena_->release(entry.record);
    if (entry.side) arena_->release(entry.side);
}

void Cache::release_records(Sequence& sequence) {
    for (LayerPages& pages : sequence.layers) {
        for (HeadPages& head : pages.heads) {
            if (head.sinks) arena_->release(head.sinks);
            for (const PageEntry& entry : head.coded)
                release_entry(entry);
            for (const PageEntry& entry : head.window)
                release_entry(entry);
            head = HeadPages{};
        }
    }
}

// A private record with the bytes of `source`, or `source` itself where its last other owner is about to let go of it. 0: full.
RecordId Cache::own(RecordId source, int size_class, bool take) {
    if (take && !arena_->shared(source)) {
        arena_->retain(source);
        return source;
    }
    const RecordId id = arena_->allocate(size_class);
    if (id) arena_->copy(source, id);
    return id;
}

// Whether the page's record is one of 16 bits; a coded page of a lossless codec is, until it is stepped down.
bool Cache::is_16_bit_page(size_t layer, const PageEntry& entry, bool coded) const {
    return !coded || (layers_[layer].rule.lossless && rung_of(layer, entry.record) == 0);
}

// The page that a cut goes through, as a 16-bit page: its slots at or above the cut are free again. `coded`: only its codes are held.
bool Cache::cut_page(size_t layer, const Sequence& sequence, const PageEntry& source, bool coded, int64_t page, int64_t length,
                     bool take, PageEntry* out) {
    const LayerFormat& format = layers_[layer].format;
    const PageRule& rule = layers_[layer].rule;
    const int window_class = classes_[layer].window;
    const int64_t start = rule.page_start(page);
    const int64_t slots = std::min<int64_t>(page_tokens, length - start);
    const uint64_t free_slots = slots < page_tokens ? all_live << slots : 0;
    if (source.record && !source.side && is_16_bit_page(layer, source, coded)) {
        out->record = own(source.record, window_class, take);
        out->live = source.live | free_slots;
        return out->record != 0;
    }
    // Decode what lives below the cut into its own slots; dead slots hold zeros. Host memory first: no record is lost if it is refused.
    std::vector<float> k(size_t(page_tokens * format.k_dim)), v(size_t(page_tokens * format.v_dim));
    std::vector<float> page_k(k.size()), page_v(v.size());
    std::vector<std::byte> room(size_t(source.record ? bytes_of_record(source.record) : 0)), window(size_t(format.window_bytes));
    out->record = arena_->allocate(window_class);
    if (!out->record) return false;
    if (source.record) {
        kernels_->read(format_of(layer, KernelTable::Form::codes, source.record), KernelTable::Form::codes,
                       arena_->fetch(source.record, room), k.data(), v.data());
    }
    uint64_t live = 0;
    for (int64_t t = 0; t < page_tokens && source.record; t++) {
        if (!(source.live >> t & 1)) continue;
        const int64_t slot = token_index(sequence, source, start, t) - start;
        if (slot >= slots) continue;
        float* k_row = std::copy_n(&k[size_t(t * format.k_dim)], format.k_dim, &page_k[size_t(slot * format.k_dim)]) - format.k_dim;
        float* v_row = std::copy_n(&v[size_t(t * format.v_dim)], format.v_dim, &page_v[size_t(slot * format.v_dim)]) - format.v_dim;
        // store() rotates, so what is stored rotated goes back first.
        if (format.codec.k.rotate) rotate(k_row, format.k_dim);
        if (format.codec.v.rotate) rotate(v_row, format.v_dim);
        live |= uint64_t{1} << slot;
    }
    StoreParams store = {&format,     page_k.data(), page_v.data(), Dtype::f32, format.k_dim, format.v_dim,
                         page_tokens, window.data(), false,         0,          true};
    kernels_->store(store);
    arena_->put(out->record, window.data());
    out->live = live | free_slots;
    return true;
}

// The page's entry, in 16 bits where it is at hand in 16 bits; nullptr: it was dropped.
const PageEntry* Cache::find_page(const LayerPages& pages, const HeadPages& head, int64_t page) {
    const bool coded = page < pages.state.first_window;
    const int64_t first = coded ? pages.state.first_coded : pages.state.first_window;
    return page < first ? nullptr : &(coded ? head.coded : head.window)[size_t(page - first)];
}

bool Cache::cut_head(size_t layer, const Sequence& source, size_t head, int64_t length, bool take, LayerPages& out) {
    const PageRule& rule = layers_[layer].rule;
    const LayerPages& pages = source.layers[layer];
    const HeadPages& from = pages.heads[head];
    HeadPages& to = out.heads[head];
    const auto share = [&](const PageEntry& entry) {
        if (entry.record) arena_->retain(entry.record);
        if (entry.side) arena_->retain(entry.side);
        return entry;
    };
    const int64_t window_pages = std::max<int64_t>(0, rule.pages(length) - out.state.first_window);
    to.coded.reserve(size_t(out.state.coded_end - out.state.first_coded));
    to.window.reserve(size_t(window_pages));
    to.queries = from.queries;
    to.mass.assign(from.mass.begin(), from.mass.begin() + std::min<int64_t>(length, int64_t(from.mass.size())));
    const auto below = [&](const TokenCount& count) { return count.position - source.first_position < length; };
    to.counts.assign(from.counts.begin(), std::partition_point(from.counts.begin(), from.counts.end(), below));
    if (from.sinks && length > 0) {
        const bool whole = length >= rule.sinks;
        to.sinks = whole ? from.sinks : own(from.sinks, classes_[layer].sinks, take);
        if (!to.sinks) return false;
        if (whole) arena_->retain(to.sinks);
    }
    // A repacked page may hold tokens from above the cut, and of spare pages that are seen in 16 bits from now on. Those that a page of the
    // window lacks, because an inexact cut went through it, it holds alone.
    const auto leaves = [&](int64_t index) {
        if (index >= length) return true;
        const int64_t page = rule.page_of(index), place = page - pages.state.first_window;
        if (place < 0 || page < out.state.coded_end) return false;
        return (from.window[size_t(place)].live >> (index - rule.page_start(page)) & 1) != 0;
    };
    for (int64_t page = out.state.first_coded; page < out.state.coded_end; page++) {
        PageEntry entry = share(from.coded[size_t(page - pages.state.first_coded)]);
        for (int64_t t = 0; t < page_tokens && entry.side; t++) {
            if (leaves(token_index(source, entry, 0, t))) entry.live &= ~(uint64_t{1} << t);
        }
        to.coded.push_back(entry);
    }
    for (int64_t page = out.state.first_window; page < out.state.first_window + window_pages; page++) {
        const bool coded = page < pages.state.first_window;
        const PageEntry* const found = find_page(pages, from, page);
        const PageEntry entry = found ? *found : PageEntry{};
        const bool whole = rule.page_start(page + 1) <= length && (!coded || is_window_page(layer, entry));
        PageEntry cut;
        if (whole) {
            cut = share(entry);
        } else if (!cut_page(layer, source, entry, coded, page, length, take, &cut)) {
            return false;
        }
        to.window.push_back(cut);
    }
    return true;
}

// A page of a 16-bit codec that fell behind the window changed its table and nothing else.
bool Cache::is_window_page(size_t layer, const PageEntry& entry) const {
    return layers_[layer].rule.lossless && entry.record && !entry.side && is_16_bit_page(layer, entry, true);
}

// From which page on, up to `end`, all pages can go back to the window as they are.
int64_t Cache::first_renamed(size_t layer, const Sequence& source, int64_t first, int64_t end) const {
    const LayerPages& pages = source.layers[layer];
    for (int64_t page = end - 1; page >= std::max(first, pages.state.first_coded); page--) {
        for (const HeadPages& head : pages.heads) {
            if (!is_window_page(layer, head.coded[size_t(page - pages.state.first_coded)])) return page + 1;
        }
    }
    return std::min(std::max(first, pages.state.first_coded), end);
}

// Pages from first_window on are at hand in 16 bits; below it, all but the cut page itself stay codes.
PageState Cache::cut_state(size_t layer, const Sequence& source, int64_t length) const {
    const PageRule& rule = layers_[layer].rule;
    const PageState& state = source.layers[layer].state;
    const int64_t cut_page = length > rule.sinks ? rule.page_of(length) : 0;
    PageState out;
    out.kept = state.kept;
    out.coded_end = std::max(rule.first_fp16_page(length), std::min(state.first_window, cut_page));
    if (rule.lossless) out.coded_end = first_renamed(layer, source, rule.first_fp16_page(length), out.coded_end);
    out.first_window = std::min(state.first_window, out.coded_end);
    out.first_coded = std::min(state.first_coded, out.coded_end);
    return out;
}

std::vector<int64_t> Cache::cut_needs(const Sequence& source, int64_t length, bool take) const {
    std::vector<int64_t> needs(arena_->class_count());
    const auto copied = [&](RecordId id) { return !take || arena_->shared(id); };
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = layers_[i].rule;
        const LayerPages& pages = source.layers[i];
        const PageState out = cut_state(i, source, length);
        for (const HeadPages& head : pages.heads) {
            if (head.sinks && length > 0 && length < rule.sinks && copied(head.sinks)) needs[size_t(classes_[i].sinks)]++;
            for (int64_t page = out.first_window; page < rule.pages(length); page++) {
                const bool coded = page < pages.state.first_window;
                const PageEntry* const found = find_page(pages, head, page);
                const PageEntry entry = found ? *found : PageEntry{};
                if (rule.page_start(page + 1) <= length && (!coded || is_window_page(i, entry))) continue;  // shared as it is
                const bool as_it_is = entry.record && !entry.side && is_16_bit_page(i, entry, coded);
                if (!as_it_is || copied(entry.record)) needs[size_t(classes_[i].window)]++;
            }
        }
    }
    return needs;
}

std::unordered_set<RecordId> Cache::shared_by_cut(const Sequence& source, int64_t length, bool sealed) const {
    std::unordered_set<RecordId> shared;
    const auto add = [&](const PageEntry& entry) {
        if (entry.record) shared.insert(entry.record);
        if (entry.side) shared.insert(entry.side);
    };
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = layers_[i].rule;
        const LayerPages& pages = source.layers[i];
        const PageState out = cut_state(i, source, length);
        for (const HeadPages& head : pages.heads) {
            if (head.sinks && length > 0 && length >= rule.sinks) shared.insert(head.sinks);
            for (int64_t page = out.first_coded; page < out.coded_end; page++)
                add(head.coded[size_t(page - pages.state.first_coded)]);
            if (sealed && !rule.lossless) continue;
            for (int64_t page = out.first_window; rule.page_start(page + 1) <= length; page++) {
                const PageEntry* const entry = find_page(pages, head, page);
                if (entry && (page >= pages.state.first_window || is_window_page(i, *entry))) add(*entry);
            }
        }
    }
    return shared;
}

std::unique_ptr<Sequence> Cache::cut_making_room(const Sequence& source, int64_t length, bool take, const PrefixEntry* keep) {
    return making_room([&] { return cut(source, length, take); }, [&] { return cut_needs(source, length, take); }, keep);
}

std::unique_ptr<Sequence> Cache::cut(const Sequence& source, int64_t length, bool take) {
    auto copy = std::make_unique<Sequence>();
    copy->first_position = source.first_position;
    copy->length = length;
    copy->prompt_end = source.prompt_end;
    copy->floor = length >= floor_of(source) ? source.floor : length;
    copy->mass_queries = source.mass_queries;
    copy->context = source.context;
    copy->overdue = source.overdue && length == source.length;  // below it the boundary that waits was not reached yet
    copy->layers.resize(layers_.size());
    try {
        for (size_t i = 0; i < layers_.size(); i++) {
            LayerPages& out = copy->layers[i];
            out.budget = source.layers[i].budget;
            out.recent = source.layers[i].recent;
            out.state = cut_state(i, source, length);
            out.heads.resize(source.layers[i].heads.size());
            for (size_t h = 0; h < out.heads.size(); h++) {
                if (!cut_head(i, source, h, length, take, out)) {
                    release_records(*copy);
                    return nullptr;
                }
            }
        }
    } catch (...) {
        release_records(*copy);
        throw;
    }
    return copy;
}

Result<int64_t> Cache::fork(int64_t id, int64_t position, bool allow_inexact) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(settle());
    Result<Sequence*> source = require_idle(id);
    if (!source.ok()) return source.status();
    KVC_TRY(check_position("fork", position));
    const int64_t length = position - (*source)->first_position;
    KVC_TRY(check_cut("fork", **source, length, allow_inexact));
    Result<uint32_t> slot = take_slot();
    if (!slot.ok()) return slot.status();
    std::unique_ptr<Sequence> copy;
    try {
        copy = cut_making_room(**source, length, false, nullptr);
    } catch (...) {
        free_slots_.push_back(*slot);
        throw;
    }
    if (!copy) {
        free_slots_.push_back(*slot);
        return fail(Code::no_memory, "fork: the arena has no room for the partial pages of sequence ", id);
    }
    return fill_slot(*slot, std::move(copy));
}

Status Cache::truncate(int64_t id, int64_t position, bool allow_inexact) {
    Result<Exclusive> lock = exclusive();
    if (!lock.ok()) return lock.status();
    KVC_TRY(settle());
    Result<Sequence*> sequence = require_present(id);
    if (!sequence.ok()) return sequence.status();
    KVC_TRY(check_position("truncate", position));
    const int64_t length = position - (*sequence)->first_position;
    if (length > (*sequence)->bad_from) return bad_token(id, **sequence);
    KVC_TRY(check_cut("truncate", **sequence, length, allow_inexact));
    if (length == (*sequence)->length) return {};
    std::unique_ptr<Sequence> rest = cut_making_room(**sequence, length, true, nullptr);
    if (!rest) return fail(Code::no_memory, "truncate: the arena has no room for the partial pages of sequence ", id);
    release_records(**sequence);
    **sequence = std::move(*rest);
    return {};
}

Result<int64_t> Cache::exact_floor(int64_t id) const {
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    return (*sequence)->first_position + floor_of(**sequence);
}

}  // namespace kvc

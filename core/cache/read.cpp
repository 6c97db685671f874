// Read-back: live tokens, their positions, numbers, codes and mass.
#include <algorithm>
#include <unordered_map>

#include "core/cache/cache.h"

namespace kvc {

int64_t Cache::token_index(const Sequence& sequence, const PageEntry& entry, int64_t page_start, int64_t slot) const {
    if (!entry.side) return page_start + slot;
    return arena_->side(entry.side).positions[slot] - sequence.first_position;
}

std::vector<Cache::LiveToken> Cache::live_tokens(const Sequence& sequence, size_t layer, size_t head) const {
    const PageRule& rule = layers_[layer].rule;
    const LayerPages& pages = sequence.layers[layer];
    const HeadPages& tables = pages.heads[head];
    std::vector<LiveToken> tokens;
    for (int64_t i = 0; i < std::min(rule.sinks, sequence.length); i++) {
        tokens.push_back({i, KernelTable::Form::sinks, tables.sinks, int(i), 0});
    }
    const auto add = [&](const std::vector<PageEntry>& table, int64_t first_page, int64_t page, KernelTable::Form form) {
        const size_t e = size_t(page - first_page);
        const PageEntry& entry = table[e];
        for (int64_t t = 0; t < page_tokens && entry.record; t++) {
            const int64_t index = token_index(sequence, entry, rule.page_start(page), t);
            if ((entry.live >> t & 1) && index < sequence.length) tokens.push_back({index, form, entry.record, int(t), e});
        }
    };
    const PageState& state = pages.state;
    const int64_t first_seen = state.first_seen_page(rule, sequence.length);
    for (int64_t page = std::max(state.first_coded, first_seen); page < state.coded_end; page++) {
        add(tables.coded, state.first_coded, page, KernelTable::Form::codes);
    }
    for (int64_t page = std::max({state.coded_end, state.first_window, first_seen}); page < rule.pages(sequence.length); page++) {
        add(tables.window, state.first_window, page, KernelTable::Form::window);
    }
    // Repacked pages hold tokens from between others.
    std::sort(tokens.begin(), tokens.end(), [](const LiveToken& a, const LiveToken& b) { return a.index < b.index; });
    return tokens;
}

Result<int64_t> Cache::live(int64_t id, int64_t layer, int64_t head) const {
    Result<std::vector<int64_t>> all = positions(id, layer, head);
    if (!all.ok()) return all.status();
    return int64_t(all->size());
}

Result<std::vector<int64_t>> Cache::positions(int64_t id, int64_t layer, int64_t head) const {
    KVC_TRY(check_layer_head(layer, head));
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    std::vector<int64_t> out;
    for (const LiveToken& token : live_tokens(**sequence, size_t(layer), size_t(head))) {
        out.push_back((*sequence)->first_position + token.index);
    }
    return out;
}

void Cache::read_rows(size_t layer, Part part, std::span<const LiveToken> tokens, float* out) const {
    const LayerFormat& format = layers_[layer].format;
    const int64_t dim = part == Part::keys ? format.k_dim : format.v_dim;
    std::vector<float> page(size_t(page_tokens * dim));
    std::vector<std::byte> room;
    RecordId held = 0;
    const bool rotated = part == Part::keys ? format.codec.k.rotate : format.codec.v.rotate;
    for (const LiveToken& token : tokens) {
        if (token.record != held) {
            held = token.record;
            float* const k = part == Part::keys ? page.data() : nullptr;
            float* const v = part == Part::values ? page.data() : nullptr;
            kernels_->read(format_of(layer, token.form, held), token.form, arena_->fetch(held, room), k, v);
        }
        std::copy_n(&page[size_t(token.slot * dim)], dim, out);
        if (rotated) rotate(out, int(dim));
        out += dim;
    }
}

Cache::TokenPlaces Cache::places_of(size_t layer, std::span<const LiveToken> tokens) const {
    TokenPlaces out;
    std::unordered_map<RecordId, uint32_t> found;
    for (const LiveToken& token : tokens) {
        const auto [source, fresh] = found.emplace(token.record, uint32_t(out.sources.size()));
        if (fresh) out.sources.push_back({&format_of(layer, token.form, token.record), token.form, arena_->data(token.record)});
        out.places.push_back(source->second * page_tokens + uint32_t(token.slot));
    }
    return out;
}

Status Cache::read(int64_t id, int64_t layer, int64_t head, Part part, int64_t first, std::span<float> out) const {
    KVC_TRY(check_layer_head(layer, head));
    Result<Shared> lock = shared_and_settled();
    if (!lock.ok()) return lock.status();
    // An open step writes beside the committed tokens of a page, which kernels read whole.
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    const LayerFormat& format = layers_[size_t(layer)].format;
    const int64_t dim = part == Part::keys ? format.k_dim : format.v_dim;
    const int64_t n = int64_t(out.size()) / dim;
    const std::vector<LiveToken> tokens = live_tokens(**sequence, size_t(layer), size_t(head));
    if (first < 0 || first > int64_t(tokens.size()) || n > int64_t(tokens.size()) - first) {
        return fail(Code::range, "read: ", n, " tokens from ", first, " on, of ", int64_t(tokens.size()), " live ones");
    }
    read_rows(size_t(layer), part, std::span(tokens).subspan(size_t(first), size_t(n)), out.data());
    return arena_->fault();
}

Result<int64_t> Cache::read_codes(int64_t id, int64_t layer, int64_t head, Part part, std::span<uint8_t> out) const {
    KVC_TRY(check_layer_head(layer, head));
    const LayerFormat& format = layers_[size_t(layer)].format;
    const Codec& codec = part == Part::keys ? format.codec.k : format.codec.v;
    if (is_16_bit(codec.type)) return fail(Code::unsupported, "read_codes: this part is kept in 16 bits and has no codes");
    Result<Shared> lock = shared_and_settled();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require_idle(id);
    if (!sequence.ok()) return sequence.status();
    const LayerPages& pages = (*sequence)->layers[size_t(layer)];
    std::vector<RecordId> records;
    const int64_t first_seen = pages.state.first_seen_page(layers_[size_t(layer)].rule, (*sequence)->length);
    for (int64_t page = std::max(pages.state.first_coded, first_seen); page < pages.state.coded_end; page++) {
        const PageEntry& entry = pages.heads[size_t(head)].coded[size_t(page - pages.state.first_coded)];
        if (entry.record) records.push_back(entry.record);
    }
    const int64_t dim = part == Part::keys ? format.k_dim : format.v_dim;
    const int64_t page_codes = page_tokens * dim;
    const int64_t needed = int64_t(records.size()) * page_codes;
    if (!out.data()) return int64_t(records.size()) * page_tokens;
    if (int64_t(out.size()) < needed)
        return fail(Code::argument, "read_codes: ", int64_t(out.size()), " bytes, ", needed, " are needed");
    auto k = std::make_unique<CanonicalPart>(), v = std::make_unique<CanonicalPart>();
    std::vector<std::byte> room;
    for (size_t i = 0; i < records.size(); i++) {
        kernels_->unpack(format_of(size_t(layer), KernelTable::Form::codes, records[i]), arena_->fetch(records[i], room), k.get(),
                         v.get());
        std::copy_n((part == Part::keys ? k : v)->codes, page_codes, &out[i * size_t(page_codes)]);
    }
    KVC_TRY(arena_->fault());
    return int64_t(records.size()) * page_tokens;
}

Result<std::vector<int64_t>> Cache::read_mass(int64_t id, int64_t layer, int64_t head) const {
    KVC_TRY(check_layer_head(layer, head));
    Result<Shared> lock = shared_and_settled();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    const std::vector<int64_t>& mass = (*sequence)->layers[size_t(layer)].heads[size_t(head)].mass;
    std::vector<int64_t> out;
    for (const LiveToken& token : live_tokens(**sequence, size_t(layer), size_t(head))) {
        out.push_back(token.index < int64_t(mass.size()) ? mass[size_t(token.index)] : 0);
    }
    return out;
}

Result<std::vector<int64_t>> Cache::read_counts(int64_t id, int64_t layer, int64_t head) const {
    KVC_TRY(check_layer_head(layer, head));
    Result<Shared> lock = shared();
    if (!lock.ok()) return lock.status();
    Result<Sequence*> sequence = require(id);
    if (!sequence.ok()) return sequence.status();
    const std::vector<TokenCount>& counts = (*sequence)->layers[size_t(layer)].heads[size_t(head)].counts;
    std::vector<int64_t> out;
    for (const LiveToken& token : live_tokens(**sequence, size_t(layer), size_t(head)))
        out.push_back(count_at(counts, (*sequence)->first_position + token.index));
    return out;
}

}  // namespace kvc

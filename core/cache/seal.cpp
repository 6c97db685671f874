// Sealing: a sequence gives up its 16-bit window, so that it holds codes alone. From then on no query sees tokens below that length in 16
// bits, as after an append of the same length that had no window.
#include <algorithm>
#include <numeric>

#include "core/cache/cache.h"

namespace kvc {

// Layers in 16 bits have nothing to give up. The others, all of them, hold sinks and whole pages.
Status Cache::check_seal(int64_t length) const {
    const Layer* first = nullptr;
    int64_t sinks = 0;
    for (const Layer& layer : layers_) {
        if (layer.rule.lossless) continue;
        if (!first) first = &layer;
        sinks = std::max(sinks, layer.rule.sinks);
        if ((layer.rule.sinks - first->rule.sinks) % page_tokens == 0) continue;
        return fail(Code::unsupported, "prefix_publish: seal: no length is whole pages of 64 behind the ", first->rule.sinks,
                    " sinks of layer ", int64_t(first - layers_.data()), " and behind the ", layer.rule.sinks, " of layer ",
                    int64_t(&layer - layers_.data()));
    }
    if (!first || (length >= sinks && (length - sinks) % page_tokens == 0)) return {};
    const int64_t below = sinks + std::max<int64_t>(0, length - sinks) / page_tokens * page_tokens;
    return fail(Code::argument, "prefix_publish: seal: ", length, " tokens are not ", sinks, " sinks and whole pages of 64; ", below,
                " or ", below + page_tokens, " would be");
}

std::vector<int64_t> Cache::sealed_cut_needs(const Sequence& source, int64_t length) const {
    std::vector<int64_t> needs = cut_needs(source, length, false);
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = layers_[i].rule;
        if (rule.lossless) continue;
        const LayerPages& pages = source.layers[i];
        for (const HeadPages& head : pages.heads) {
            for (int64_t page = cut_state(i, source, length).coded_end; page < rule.pages(length); page++)
                needs[size_t(classes_[i].codes)] += head.window[size_t(page - pages.state.first_window)].record != 0;
        }
    }
    return needs;
}

// Moves the head's window pages from coded_end on to its table of codes, with new records; false if the arena is full.
bool Cache::code_window(size_t layer, const PageState& state, HeadPages& head) {
    head.coded.reserve(head.coded.size() + head.window.size());
    for (size_t e = size_t(state.coded_end - state.first_window); e < head.window.size(); e++) {
        PageEntry entry = head.window[e];
        if (entry.record) entry.record = arena_->allocate(classes_[layer].codes);
        if (head.window[e].record && !entry.record) return false;
        head.coded.push_back(entry);
    }
    return true;
}

// The bytes of those records, as if the pages had been pushed out of the window. How many.
int64_t Cache::quantize_window(size_t layer, const PageState& state, const HeadPages& head) {
    const Layer& shape = layers_[layer];
    std::vector<std::byte> codes(size_t(shape.format.code_bytes));
    std::vector<RecodeSource> sources(head.window.size());
    std::vector<RecodeParams> jobs;
    int64_t pages = 0;
    const size_t spares = size_t(state.coded_end - state.first_window), coded = size_t(state.coded_end - state.first_coded);
    for (size_t e = spares; e < head.window.size(); e++) {
        const RecordId from = head.window[e].record, to = head.coded[coded + e - spares].record;
        if (!from) continue;
        pages++;
        if (!device_) {
            kernels_->quantize({&shape.format, arena_->data(from), codes.data()});
            arena_->put(to, codes.data());
            continue;
        }
        sources[e] = {&shape.window_rows, arena_->data(from), nullptr, 0};
        RecodeParams job = {&shape.format, arena_->data(to), nullptr, &sources[e], 1, {}, {}, false, 0};
        std::iota(std::begin(job.slots), std::end(job.slots), uint8_t{0});
        jobs.push_back(job);
    }
    if (device_) arena_->recode(jobs);
    return pages;
}

bool Cache::seal(Sequence& sequence, int64_t* coded) {
    for (size_t i = 0; i < layers_.size(); i++) {
        if (layers_[i].rule.lossless) continue;
        for (HeadPages& head : sequence.layers[i].heads)
            if (!code_window(i, sequence.layers[i].state, head)) return false;
    }
    *coded = 0;
    for (size_t i = 0; i < layers_.size(); i++) {
        if (layers_[i].rule.lossless) continue;
        PageState& state = sequence.layers[i].state;
        for (HeadPages& head : sequence.layers[i].heads) {
            *coded += quantize_window(i, state, head);
            for (const PageEntry& entry : head.window)
                release_entry(entry);
            head.window.clear();
        }
        state.coded_end = state.first_window = std::max(state.coded_end, layers_[i].rule.pages(sequence.length));
    }
    sequence.floor = sequence.length;
    return true;
}

std::unique_ptr<Sequence> Cache::cut_sealed(const Sequence& source, int64_t length, const PrefixEntry* keep, int64_t* coded) {
    const auto attempt = [&]() -> std::unique_ptr<Sequence> {
        std::unique_ptr<Sequence> copy = cut(source, length, false);
        if (!copy) return nullptr;
        try {
            if (seal(*copy, coded)) return copy;
        } catch (...) {
            release_records(*copy);
            throw;
        }
        release_records(*copy);
        return nullptr;
    };
    return making_room(attempt, [&] { return sealed_cut_needs(source, length); }, keep);
}

}  // namespace kvc

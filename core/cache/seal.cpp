// Sealing: a sequence gives up its 16-bit window, so that it holds codes alone. From then on no query sees tokens below that length in 16
// bits, as after an append of the same length that had no window.
#include <algorithm>
#include <functional>
#include <numeric>

#include "core/cache/cache.h"

namespace kvc {

// Layers in 16 bits have nothing to give up.
Status Cache::check_seal(int64_t length) const {
    for (size_t i = 0; i < layers_.size(); i++) {
        const PageRule& rule = layers_[i].rule;
        if (rule.lossless || (length >= rule.sinks && (length - rule.sinks) % page_tokens == 0)) continue;
        const int64_t below = rule.sinks + std::max<int64_t>(0, length - rule.sinks) / page_tokens * page_tokens;
        return fail(Code::argument, "prefix_publish: seal: ", length, " tokens are not the ", rule.sinks, " sinks of layer ",
                    int64_t(i), " and whole pages of 64; ", below, " or ", below + page_tokens, " would be");
    }
    return {};
}

std::vector<int64_t> Cache::seal_needs(const Sequence& source, int64_t length) const {
    std::vector<int64_t> needs(arena_->class_count());
    for (size_t i = 0; i < layers_.size(); i++) {
        const Layer& layer = layers_[i];
        if (layer.rule.lossless) continue;
        const int64_t pages = layer.rule.pages(length) - cut_state(i, source, length).coded_end;
        needs[size_t(classes_[i].codes)] += layer.kv_heads * std::max<int64_t>(0, pages);
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

// The bytes of those records, as if the pages had been pushed out of the window.
void Cache::quantize_window(size_t layer, const PageState& state, const HeadPages& head) {
    const Layer& shape = layers_[layer];
    std::vector<std::byte> codes(size_t(shape.format.code_bytes));
    std::vector<RecodeSource> sources(head.window.size());
    std::vector<RecodeParams> jobs;
    const size_t spares = size_t(state.coded_end - state.first_window), coded = size_t(state.coded_end - state.first_coded);
    for (size_t e = spares; e < head.window.size(); e++) {
        const RecordId from = head.window[e].record, to = head.coded[coded + e - spares].record;
        if (!from) continue;
        counters_.pages_quantized++;
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
}

bool Cache::seal(Sequence& sequence) {
    for (size_t i = 0; i < layers_.size(); i++) {
        if (layers_[i].rule.lossless) continue;
        for (HeadPages& head : sequence.layers[i].heads)
            if (!code_window(i, sequence.layers[i].state, head)) return false;
    }
    for (size_t i = 0; i < layers_.size(); i++) {
        if (layers_[i].rule.lossless) continue;
        PageState& state = sequence.layers[i].state;
        for (HeadPages& head : sequence.layers[i].heads) {
            quantize_window(i, state, head);
            for (const PageEntry& entry : head.window)
                release_entry(entry);
            head.window.clear();
        }
        state.coded_end = state.first_window = std::max(state.coded_end, layers_[i].rule.pages(sequence.length));
    }
    sequence.floor = sequence.length;
    return true;
}

std::unique_ptr<Sequence> Cache::cut_sealed(const Sequence& source, int64_t length, const PrefixEntry* keep) {
    const auto attempt = [&]() -> std::unique_ptr<Sequence> {
        std::unique_ptr<Sequence> copy = cut(source, length, false);
        if (!copy) return nullptr;
        try {
            if (seal(*copy)) return copy;
        } catch (...) {
            release_records(*copy);
            throw;
        }
        release_records(*copy);
        return nullptr;
    };
    const auto needs = [&] {
        std::vector<int64_t> all = cut_needs(source, length, false);
        const std::vector<int64_t> codes = seal_needs(source, length);
        std::transform(all.begin(), all.end(), codes.begin(), all.begin(), std::plus<>());
        return all;
    };
    return making_room(attempt, needs, keep);
}

}  // namespace kvc

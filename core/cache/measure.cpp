// What a policy asks of keys and values: on the host from rows, on a device where the pages lie, so that numbers come back and no page.
#include "core/cache/evict.h"
#include "core/policy/key_statistics.h"

namespace kvc {

Status Evictor::measure(size_t layer, std::span<const Tokens> tokens, std::vector<MeasuredHead>* out) const {
    const PolicyTraits& traits = policy().traits;
    if (traits.keys == KeyStatistic::none) return {};
    if (cache_.device_) return measure_there(layer, tokens, out);
    const LayerFormat& format = cache_.layers_[layer].format;
    const size_t first = size_t(head_range(layer).first);
    for (size_t i = 0; i < tokens.size(); i++) {
        std::vector<float> rows(tokens[i].size() * size_t(format.k_dim));
        cache_.read_rows(layer, Part::keys, tokens[i], rows.data());
        const QueryMoments queries = query_moments(sequence_.layers[layer].heads[first + i].queries, format.k_dim);
        (*out)[i].of_keys = key_statistics(traits.keys, rows, format.k_dim, queries);
        if (!traits.values) continue;
        rows.resize(tokens[i].size() * size_t(format.v_dim));
        cache_.read_rows(layer, Part::values, tokens[i], rows.data());
        (*out)[i].value_norms = row_norms(rows, format.v_dim);
    }
    return {};
}

Status Evictor::measure_there(size_t layer, std::span<const Tokens> tokens, std::vector<MeasuredHead>* out) const {
    const PolicyTraits& traits = policy().traits;
    const LayerFormat& format = cache_.layers_[layer].format;
    const size_t first = size_t(head_range(layer).first);
    std::vector<Cache::TokenPlaces> places;
    std::vector<QueryMoments> queries;
    std::vector<StatisticJob> jobs;
    for (size_t i = 0; i < tokens.size(); i++) {
        places.push_back(cache_.places_of(layer, tokens[i]));
        queries.push_back(query_moments(sequence_.layers[layer].heads[first + i].queries, format.k_dim));
    }
    for (size_t i = 0; i < tokens.size(); i++) {
        const int64_t heads = traits.keys == KeyStatistic::logits ? queries[i].heads : 1;
        MeasuredHead& head = (*out)[i];
        head.of_keys.resize(tokens[i].size() * size_t(heads));
        if (traits.values) head.value_norms.resize(tokens[i].size());
        jobs.push_back({&format, places[i].list(), traits.keys, heads, queries[i].mean.data(), queries[i].variance.data(),
                        head.of_keys.data(), traits.values ? head.value_norms.data() : nullptr});
    }
    return cache_.arena_->measure(jobs);
}

}  // namespace kvc

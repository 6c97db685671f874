// Merging's numbers: which kept token each leaving one joins, and the means of those that come together. On the host from rows, on a device
// where the pages lie.
#include <algorithm>

#include "core/base/size.h"
#include "core/cache/evict.h"

namespace kvc {
namespace {

bool leaves_any(const std::vector<bool>& keep) { return std::find(keep.begin(), keep.end(), false) != keep.end(); }

template <class Token>
std::vector<Token> pick(std::span<const Token> tokens, std::span<const size_t> which) {
    std::vector<Token> out;
    for (const size_t i : which)
        out.push_back(tokens[i]);
    return out;
}

}  // namespace

// ---- which token joins which ----

Status Evictor::route(size_t layer, std::span<const Tokens> tokens, std::span<const std::vector<bool>> keep,
                      std::vector<std::vector<int64_t>>* into) const {
    if (cache_.device_) return route_there(layer, tokens, keep, into);
    const LayerFormat& format = cache_.layers_[layer].format;
    for (size_t h = 0; h < tokens.size(); h++) {
        if (!leaves_any(keep[h])) continue;
        std::vector<float> keys(tokens[h].size() * size_t(format.k_dim));
        cache_.read_rows(layer, Part::keys, tokens[h], keys.data());
        const int64_t sinks = std::min<int64_t>(cache_.layers_[layer].rule.sinks, int64_t(tokens[h].size()));
        (*into)[h] = route_by_cosine({keys, format.k_dim, keep[h], sinks}, merging(layer)->threshold);
    }
    return {};
}

Status Evictor::route_there(size_t layer, std::span<const Tokens> tokens, std::span<const std::vector<bool>> keep,
                            std::vector<std::vector<int64_t>>* into) const {
    struct Head {
        std::vector<size_t> leaving, kept;
        Cache::TokenPlaces leaving_places, kept_places;
        std::vector<int64_t> joins;
    };
    const Layer& shape = cache_.layers_[layer];
    std::vector<Head> heads(tokens.size());
    std::vector<RouteJob> jobs;
    for (size_t h = 0; h < tokens.size(); h++) {
        if (!leaves_any(keep[h])) continue;
        Head& head = heads[h];
        for (size_t i = 0; i < tokens[h].size(); i++) {
            if (!keep[h][i]) head.leaving.push_back(i);
            if (keep[h][i] && int64_t(i) >= shape.rule.sinks) head.kept.push_back(i);
        }
        head.leaving_places = cache_.places_of(layer, pick<Cache::LiveToken>(tokens[h], head.leaving));
        head.kept_places = cache_.places_of(layer, pick<Cache::LiveToken>(tokens[h], head.kept));
        head.joins.resize(head.leaving.size());
        jobs.push_back({&shape.format, head.leaving_places.list(), head.kept_places.list(), least_cosine(merging(layer)->threshold),
                        head.joins.data()});
    }
    if (jobs.empty()) return {};
    KVC_TRY(cache_.arena_->route(jobs));
    for (size_t h = 0; h < tokens.size(); h++) {
        const Head& head = heads[h];
        std::vector<int64_t>& out = (*into)[h];
        for (size_t i = 0; i < tokens[h].size() && !head.leaving.empty(); i++)
            out.push_back(int64_t(i));
        for (size_t i = 0; i < head.leaving.size(); i++)
            out[head.leaving[i]] = head.joins[i] < 0 ? joins_none : int64_t(head.kept[size_t(head.joins[i])]);
    }
    return {};
}

// ---- means ----

// The kept tokens that others join, without their numbers.
std::vector<HeadFold> Evictor::folds_of(size_t layer, size_t head, const Tokens& tokens, std::span<const int64_t> into) const {
    std::vector<std::vector<size_t>> clusters(tokens.size());  // of a kept token: itself and those that join it
    for (size_t i = 0; i < into.size(); i++) {
        if (into[i] == joins_none || into[i] == int64_t(i)) continue;
        std::vector<size_t>& cluster = clusters[size_t(into[i])];
        if (cluster.empty()) cluster.push_back(size_t(into[i]));
        cluster.push_back(i);
    }
    const std::vector<TokenCount>& counts = sequence_.layers[layer].heads[head].counts;
    std::vector<HeadFold> folds;
    for (std::vector<size_t>& cluster : clusters) {
        if (cluster.empty()) continue;
        const Cache::LiveToken& kept = tokens[cluster[0]];
        HeadFold fold;
        fold.token = {kept.form, kept.entry, kept.slot, sequence_.first_position + kept.index, 0, true, {}, {}, nullptr};
        fold.token.new_key = merging(layer)->parts == MergeParts::keys_and_values;
        for (const size_t i : cluster) {
            fold.weights.push_back(count_at(counts, sequence_.first_position + tokens[i].index));
            fold.token.count += fold.weights.back();
        }
        fold.members = std::move(cluster);
        folds.push_back(std::move(fold));
    }
    return folds;
}

void Evictor::means_here(size_t layer, const Tokens& tokens, std::span<HeadFold> folds) const {
    std::vector<bool> involved(tokens.size());
    for (const HeadFold& fold : folds) {
        for (const size_t i : fold.members)
            involved[i] = true;
    }
    Tokens rows;
    std::vector<size_t> row_of(tokens.size());
    for (size_t i = 0; i < tokens.size(); i++) {
        if (!involved[i]) continue;
        row_of[i] = rows.size();
        rows.push_back(tokens[i]);
    }
    const LayerFormat& format = cache_.layers_[layer].format;
    std::vector<float> keys(rows.size() * size_t(format.k_dim)), values(rows.size() * size_t(format.v_dim));
    cache_.read_rows(layer, Part::keys, rows, keys.data());
    cache_.read_rows(layer, Part::values, rows, values.data());
    for (HeadFold& fold : folds) {
        std::vector<const float*> k, v;
        for (const size_t i : fold.members) {
            k.push_back(&keys[row_of[i] * size_t(format.k_dim)]);
            v.push_back(&values[row_of[i] * size_t(format.v_dim)]);
        }
        fold.token.k =
            fold.token.new_key ? weighted_mean(k, fold.weights, format.k_dim) : std::vector<float>(k[0], k[0] + format.k_dim);
        fold.token.v = weighted_mean(v, fold.weights, format.v_dim);
    }
}

// Rows wait in the device's memory until pages are made of them: by then tokens' own pages may have changed.
Status Evictor::means_there(size_t layer, std::span<const Tokens> tokens, std::span<std::vector<HeadFold>> folds) {
    struct Head {
        Cache::TokenPlaces places;
        std::vector<int64_t> weights, ends;
    };
    const LayerFormat& format = cache_.layers_[layer].format;
    const int64_t numbers = format.k_dim + format.v_dim;
    size_t all = 0;
    for (const std::vector<HeadFold>& head : folds)
        all += head.size();
    if (all == 0) return {};
    const Size bytes = Size(int64_t(all)) * numbers * int64_t(sizeof(float));
    auto* row = reinterpret_cast<float*>(blocks_.add(bytes.value()));
    if (!row) {
        return fail(Code::no_memory, "merge: the device has no memory for ", int64_t(all), " means of tokens of layer ",
                    int64_t(layer));
    }
    std::vector<Head> heads(folds.size());
    std::vector<FoldJob> jobs;
    for (size_t h = 0; h < folds.size(); h++) {
        if (folds[h].empty()) continue;
        std::vector<size_t> members;
        float* const rows = row;
        for (HeadFold& fold : folds[h]) {
            members.insert(members.end(), fold.members.begin(), fold.members.end());
            heads[h].weights.insert(heads[h].weights.end(), fold.weights.begin(), fold.weights.end());
            heads[h].ends.push_back(int64_t(members.size()));
            fold.token.row = row;
            row += numbers;
        }
        heads[h].places = cache_.places_of(layer, pick<Cache::LiveToken>(tokens[h], members));
        jobs.push_back({&format, heads[h].places.list(), heads[h].weights.data(), heads[h].ends.data(), int64_t(folds[h].size()),
                        folds[h][0].token.new_key, rows});
    }
    return cache_.arena_->fold(jobs);
}

Status Evictor::fold_layer(size_t layer, std::span<const Tokens> tokens, std::span<const std::vector<int64_t>> into,
                           std::vector<std::vector<FoldedToken>>* out) {
    const size_t first = size_t(head_range(layer).first);
    std::vector<std::vector<HeadFold>> folds;
    for (size_t h = 0; h < tokens.size(); h++) {
        folds.push_back(folds_of(layer, first + h, tokens[h], into[h]));
        if (!cache_.device_ && !folds[h].empty()) means_here(layer, tokens[h], folds[h]);
    }
    if (cache_.device_) KVC_TRY(means_there(layer, tokens, folds));
    for (std::vector<HeadFold>& head : folds) {
        std::vector<FoldedToken>& folded = out->emplace_back();
        for (HeadFold& fold : head)
            folded.push_back(std::move(fold.token));
    }
    return {};
}

}  // namespace kvc

// Evict, read-back and stats.
#include <algorithm>

#include "capi/handles.h"
#include "capi/structs.h"

namespace kvc {
namespace {

Result<EvictRequest> read_evict_options(const kvc_evict_options* given) {
    kvc_evict_options options = {};
    KVC_TRY(read_struct("evict_options", given, &options));
    if (options.reserved != 0) return fail(Code::argument, "evict_options: reserved is not 0");
    EvictRequest out;
    out.layer_begin = options.layer_begin;
    out.layer_end = options.layer_end;
    out.head_begin = options.head_begin;
    out.head_end = options.head_end;
    out.budget = options.budget;
    out.recent = options.recent;
    return out;
}

Status evict(Cache& cache, kvc_seq seq, const EvictRequest& request, kvc_evict_report* out) {
    if (out) KVC_TRY(check_out_struct("report", out));
    Result<EvictReport> report = request.by_clusters ? cache.merge(seq, request) : cache.evict(seq, request);
    if (!report.ok()) return report.status();
    if (out)
        write_struct(kvc_evict_report{0, 0, report->tokens_evicted, report->records_freed, report->bytes_freed, report->tokens_repacked,
                                      report->tokens_merged},
                     out);
    return {};
}

Result<EvictRequest> read_merge_options(const kvc_merge_options* given) {
    kvc_merge_options options = {};
    KVC_TRY(read_struct("merge_options", given, &options));
    if (options.reserved != 0) return fail(Code::argument, "merge_options: reserved is not 0");
    for (const auto& [name, value] : {std::pair{"values_only", options.values_only}, {"unbiased", options.unbiased}}) {
        if (value != 0 && value != 1) return fail(Code::argument, "merge_options: ", name, " ", int64_t(value), " is neither 0 nor 1");
    }
    EvictRequest out;
    out.layer_begin = options.layer_begin;
    out.layer_end = options.layer_end;
    out.head_begin = options.head_begin;
    out.head_end = options.head_end;
    out.by_clusters = true;
    out.merge.parts = options.values_only ? MergeParts::values : MergeParts::keys_and_values;
    out.merge.bias = options.unbiased == 0;
    return out;
}

Result<Part> read_part(const char* what, int32_t part) {
    if (part == KVC_KEYS) return Part::keys;
    if (part == KVC_VALUES) return Part::values;
    return fail(Code::argument, what, ": part ", int64_t(part), " is not a kvc_part");
}

// Copies a list of numbers into the caller's array.
Status write_list(const char* what, const Result<std::vector<int64_t>>& list, int64_t* out, int64_t capacity, int64_t* out_tokens) {
    if (!list.ok()) return list.status();
    const int64_t n = int64_t(list->size());
    if (n > 0 && !out) return fail(Code::argument, what, ": out is NULL");
    if (capacity < n) return fail(Code::argument, what, ": capacity ", capacity, ", ", n, " are needed");
    std::copy(list->begin(), list->end(), out);
    if (out_tokens) *out_tokens = n;
    return {};
}

}  // namespace
}  // namespace kvc

using namespace kvc;

kvc_status kvc_evict(kvc_cache* cache, kvc_seq seq, const float* scores, int64_t n_scores, const kvc_evict_options* options,
                     kvc_evict_report* out, kvc_error* err) {
    return with_cache("evict", cache, err, [&](Cache& c) -> Status {
        Result<EvictRequest> request = read_evict_options(options);
        if (!request.ok()) return request.status();
        if (!scores && n_scores != 0) return fail(Code::argument, "evict: n_scores ", n_scores, " without scores");
        request->scores = scores;
        request->n_scores = n_scores;
        return evict(c, seq, *request, out);
    });
}

kvc_status kvc_evict_keep(kvc_cache* cache, kvc_seq seq, const int64_t* positions, int64_t n, const kvc_evict_options* options,
                          kvc_evict_report* out, kvc_error* err) {
    return with_cache("evict_keep", cache, err, [&](Cache& c) -> Status {
        Result<EvictRequest> request = read_evict_options(options);
        if (!request.ok()) return request.status();
        if (n < 0 || (n > 0 && !positions)) return fail(Code::argument, "evict_keep: n ", n, " without positions");
        request->keep = {positions, size_t(n)};
        request->by_keep = true;
        return evict(c, seq, *request, out);
    });
}

kvc_status kvc_merge(kvc_cache* cache, kvc_seq seq, const int32_t* clusters, int64_t n_clusters, const kvc_merge_options* options,
                     kvc_evict_report* out, kvc_error* err) {
    return with_cache("merge", cache, err, [&](Cache& c) -> Status {
        Result<EvictRequest> request = read_merge_options(options);
        if (!request.ok()) return request.status();
        if (n_clusters < 0 || (n_clusters > 0 && !clusters))
            return fail(Code::argument, "merge: n_clusters ", n_clusters, " without clusters");
        request->into = {clusters, size_t(n_clusters)};
        return evict(c, seq, *request, out);
    });
}

kvc_status kvc_seq_read_counts(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                               int64_t* out_tokens, kvc_error* err) {
    return with_cache("seq_read_counts", cache, err, [&](Cache& c) {
        return write_list("seq_read_counts", c.read_counts(seq, layer, head), out, capacity, out_tokens);
    });
}

kvc_status kvc_seq_positions(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                             int64_t* out_tokens, kvc_error* err) {
    return with_cache("seq_positions", cache, err,
                      [&](Cache& c) { return write_list("seq_positions", c.positions(seq, layer, head), out, capacity, out_tokens); });
}

kvc_status kvc_seq_read(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int32_t part, int64_t first, int64_t n,
                        float* out, int64_t out_bytes, kvc_error* err) {
    return with_cache("seq_read", cache, err, [&](Cache& c) -> Status {
        Result<Part> which = read_part("seq_read", part);
        if (!which.ok()) return which.status();
        if (layer < 0 || layer >= int64_t(c.layers().size()))
            return fail(Code::argument, "seq_read: layer ", layer, " is out of range");
        const LayerFormat& format = c.layers()[size_t(layer)].format;
        const int64_t dim = *which == Part::keys ? format.k_dim : format.v_dim;
        if (n < 0 || n > INT64_MAX / (dim * int64_t(sizeof(float)))) return fail(Code::argument, "seq_read: n ", n, " is out of range");
        const int64_t needed = n * dim * int64_t(sizeof(float));
        if (n > 0 && !out) return fail(Code::argument, "seq_read: out is NULL");
        if (out_bytes < needed) return fail(Code::argument, "seq_read: out has ", out_bytes, " bytes, ", needed, " are needed");
        return c.read(seq, layer, head, *which, first, {out, size_t(n * dim)});
    });
}

kvc_status kvc_seq_read_codes(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int32_t part, uint8_t* out,
                              int64_t out_bytes, int64_t* out_tokens, kvc_error* err) {
    return with_cache("seq_read_codes", cache, err, [&](Cache& c) -> Status {
        Result<Part> which = read_part("seq_read_codes", part);
        if (!which.ok()) return which.status();
        if (!out_tokens) return fail(Code::argument, "seq_read_codes: out_tokens is NULL");
        if (out_bytes < 0) return fail(Code::argument, "seq_read_codes: out_bytes ", out_bytes, " is negative");
        Result<int64_t> tokens = c.read_codes(seq, layer, head, *which, {out, out ? size_t(out_bytes) : 0});
        if (!tokens.ok()) return tokens.status();
        *out_tokens = *tokens;
        return {};
    });
}

kvc_status kvc_seq_read_mass(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                             int64_t* out_tokens, kvc_error* err) {
    return with_cache("seq_read_mass", cache, err,
                      [&](Cache& c) { return write_list("seq_read_mass", c.read_mass(seq, layer, head), out, capacity, out_tokens); });
}

kvc_status kvc_seq_read_rungs(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                              int64_t* out_tokens, kvc_error* err) {
    return with_cache("seq_read_rungs", cache, err, [&](Cache& c) {
        return write_list("seq_read_rungs", c.read_rungs(seq, layer, head), out, capacity, out_tokens);
    });
}

kvc_status kvc_stats_get(const kvc_cache* cache, kvc_stats* out, kvc_error* err) {
    return with_cache("stats_get", cache, err, [&](Cache& c) -> Status {
        KVC_TRY(check_out_struct("stats", out));
        Result<CacheStats> s = c.stats();
        if (!s.ok()) return s.status();
        const int64_t published = s->sink_bytes + s->window_bytes + s->code_bytes + s->side_bytes;
        write_struct(kvc_stats{0,
                               int32_t(s->open_steps),
                               s->arena_bytes,
                               s->bound_bytes,
                               s->record_bytes,
                               s->sink_bytes,
                               s->window_bytes,
                               s->code_bytes,
                               s->side_bytes,
                               s->record_bytes - published,
                               s->table_bytes,
                               s->scratch_bytes,
                               s->sequences,
                               s->tokens_appended,
                               s->tokens_evicted,
                               s->pages_quantized,
                               s->tokens_requantized,
                               s->slow_calls,
                               s->tokens_merged,
                               s->synchronizations,
                               s->bytes_staged},
                     out);
        return {};
    });
}

kvc_status kvc_seq_stats_get(const kvc_cache* cache, kvc_seq seq, kvc_seq_stats* out, kvc_error* err) {
    return with_cache("seq_stats_get", cache, err, [&](Cache& c) -> Status {
        KVC_TRY(check_out_struct("seq_stats", out));
        Result<SequenceStats> s = c.sequence_stats(seq);
        if (!s.ok()) return s.status();
        const double held = double(s->record_bytes + s->table_bytes);
        const double effective = s->tokens > 0 ? held * 16 / double(s->fp16_bytes) : 0;
        write_struct(
            kvc_seq_stats{0, 0, s->tokens, s->record_bytes, s->shared_bytes, s->table_bytes, s->fp16_bytes, s->codec_bits, effective},
            out);
        return {};
    });
}

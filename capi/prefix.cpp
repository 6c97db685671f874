// The prefix index.
#include "capi/handles.h"
#include "capi/structs.h"

namespace kvc {
namespace {

constexpr int64_t tokens_limit = int64_t{1} << 40;
constexpr int64_t salt_limit = 4096;

// The caller's tokens and salt; neither is read here.
Result<PrefixKey> read_key(const char* what, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes) {
    if (n < 0 || n > tokens_limit) return fail(Code::argument, what, ": n ", n, " is out of range (0 .. 2^40)");
    if (n > 0 && !tokens) return fail(Code::argument, what, ": tokens is NULL");
    if (salt_bytes < 0 || salt_bytes > salt_limit) {
        return fail(Code::argument, what, ": salt_bytes ", salt_bytes, " is out of range (0 .. ", salt_limit, ")");
    }
    if (salt_bytes > 0 && !salt) return fail(Code::argument, what, ": salt is NULL");
    return PrefixKey{{tokens, size_t(n)}, {static_cast<const char*>(salt), size_t(salt_bytes)}};
}

Result<PublishOptions> read_publish_options(const kvc_prefix_options* given) {
    kvc_prefix_options options = {};
    KVC_TRY(read_struct("prefix_options", given, &options));
    if (options.pinned < 0 || options.pinned > 1)
        return fail(Code::argument, "prefix_publish: pinned ", int64_t(options.pinned), " is neither 0 nor 1");
    if (options.seal < 0 || options.seal > 1)
        return fail(Code::argument, "prefix_publish: seal ", int64_t(options.seal), " is neither 0 nor 1");
    if (options.reserved != 0) return fail(Code::argument, "prefix_publish: reserved is not 0");
    return PublishOptions{options.pinned == 1, options.seal == 1};
}

}  // namespace
}  // namespace kvc

using namespace kvc;

kvc_status kvc_prefix_publish(kvc_cache* cache, kvc_seq seq, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes,
                              const kvc_prefix_options* options, kvc_error* err) {
    return with_cache("prefix_publish", cache, err, [&](Cache& c) -> Status {
        Result<PrefixKey> key = read_key("prefix_publish", tokens, n, salt, salt_bytes);
        if (!key.ok()) return key.status();
        if (n == 0) return fail(Code::argument, "prefix_publish: n 0 is below 1");
        Result<PublishOptions> read = read_publish_options(options);
        return read.ok() ? c.publish_prefix(seq, *key, *read) : read.status();
    });
}

kvc_seq kvc_prefix_lookup(kvc_cache* cache, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes,
                          const kvc_seq_options* options, kvc_prefix_hit* out, kvc_error* err) {
    kvc_seq made = 0;
    with_cache("prefix_lookup", cache, err, [&](Cache& c) -> Status {
        Result<PrefixKey> key = read_key("prefix_lookup", tokens, n, salt, salt_bytes);
        if (!key.ok()) return key.status();
        kvc_seq_options given = {};
        KVC_TRY(read_struct("seq_options", options, &given));
        if (given.reserved != 0) return fail(Code::argument, "prefix_lookup: reserved is not 0");
        KVC_TRY(check_out_struct("prefix_hit", out));
        Result<PrefixHit> hit = c.look_up_prefix(*key, given.first_position, given.prompt_length);
        if (!hit.ok()) return hit.status();
        write_struct(kvc_prefix_hit{0, 0, hit->tokens, hit->shared}, out);
        made = hit->sequence;
        return {};
    });
    return made;
}

kvc_status kvc_prefix_remove(kvc_cache* cache, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes, int64_t* out,
                             kvc_error* err) {
    return with_cache("prefix_remove", cache, err, [&](Cache& c) -> Status {
        Result<PrefixKey> key = read_key("prefix_remove", tokens, n, salt, salt_bytes);
        if (!key.ok()) return key.status();
        if (!out) return fail(Code::argument, "prefix_remove: out is NULL");
        Result<int64_t> removed = c.remove_prefixes(*key);
        if (removed.ok()) *out = *removed;
        return removed.ok() ? Status{} : removed.status();
    });
}

kvc_status kvc_prefix_clear(kvc_cache* cache, kvc_error* err) {
    return with_cache("prefix_clear", cache, err, [&](Cache& c) { return c.clear_prefixes(); });
}

kvc_status kvc_prefix_budget_set(kvc_cache* cache, int64_t bytes, kvc_error* err) {
    return with_cache("prefix_budget_set", cache, err, [&](Cache& c) { return c.set_prefix_budget(bytes); });
}

kvc_status kvc_prefix_stats_get(const kvc_cache* cache, kvc_prefix_stats* out, kvc_error* err) {
    return with_cache("prefix_stats_get", cache, err, [&](Cache& c) -> Status {
        KVC_TRY(check_out_struct("prefix_stats", out));
        Result<PrefixStats> s = c.prefix_stats();
        if (!s.ok()) return s.status();
        write_struct(kvc_prefix_stats{0, 0, s->entries, s->tokens, s->record_bytes, s->host_bytes, s->budget_bytes, s->hits, s->misses,
                                      s->hit_tokens, s->evictions},
                     out);
        return {};
    });
}

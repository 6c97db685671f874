#include "bench/layer_cache.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace bench {
namespace {

constexpr int64_t fill_tokens = 512;   // per step while the cache is filled
constexpr int64_t room_tokens = 4096;  // for steps of branches
constexpr int64_t short_tokens = 512;  // enough work for a few threads, little enough to stay unnoticed

[[noreturn]] void give_up(const char* call, const kvc_error& err) {
    std::fprintf(stderr, "bench: %s: %s (%s)\n", call, err.message, kvc_status_name(err.status));
    std::exit(1);
}

kvc_error no_error() {
    kvc_error err = {};
    err.struct_size = sizeof err;
    return err;
}

int64_t bytes_of(const std::vector<float>& x) { return int64_t(x.size() * sizeof(float)); }

kvc_options options_of(const CacheRequest& request) {
    kvc_options options;
    kvc_options_init(&options, sizeof options);
    options.layers = 1;
    options.kv_heads = request.shape.kv_heads;
    options.q_heads = request.shape.q_heads;
    options.k_dim = options.v_dim = request.shape.head_dim;
    options.arena_tokens = request.context + room_tokens;
    options.arena_growth = 1;               // branches share pages; what they add is small, but not in the plan
    options.threads = request.threads - 1;  // kvc counts the workers beside the caller
    std::snprintf(options.codec, sizeof options.codec, "%s", request.codec.c_str());
    std::snprintf(options.target, sizeof options.target, "%s", request.target.c_str());
    std::snprintf(options.policy, sizeof options.policy, "%s", request.policy.c_str());
    return options;
}

}  // namespace

bool CacheRequest::operator==(const CacheRequest& other) const {
    return shape.kv_heads == other.shape.kv_heads && shape.q_heads == other.shape.q_heads && shape.head_dim == other.shape.head_dim &&
           codec == other.codec && target == other.target && context == other.context && threads == other.threads &&
           policy == other.policy;
}

LayerCache::LayerCache(const CacheRequest& request, const Numbers& numbers) : request_(request), numbers_(numbers) {
    kvc_error err = no_error();
    const kvc_options options = options_of(request);
    cache_ = kvc_create(&options, nullptr, 0, &err);
    if (!cache_) give_up("create", err);
    filled_ = kvc_seq_create(cache_, nullptr, &err);
    short_ = kvc_seq_create(cache_, nullptr, &err);
    if (!filled_ || !short_) give_up("seq_create", err);
    for (int64_t held = 0; held < request.context;) {
        const int64_t tokens = std::min(fill_tokens, request.context - held);
        run(filled_, tokens, false);
        held += tokens;
    }
    run(short_, short_tokens, false);
    kvc_seq_stats stats = {};
    stats.struct_size = sizeof stats;
    if (kvc_seq_stats_get(cache_, filled_, &stats, &err)) give_up("seq_stats_get", err);
    bytes_ = stats.record_bytes;
}

LayerCache::~LayerCache() { kvc_destroy(cache_, nullptr); }

void LayerCache::branch(bool prompt) {
    kvc_error err = no_error();
    if (branch_ && kvc_seq_destroy(cache_, branch_, &err)) give_up("seq_destroy", err);
    branch_ = kvc_seq_fork(cache_, filled_, request_.context, KVC_CUT_EXACT, &err);
    if (!branch_) give_up("seq_fork", err);
    if (prompt && kvc_seq_prompt_set(cache_, branch_, request_.context + room_tokens, &err)) give_up("seq_prompt_set", err);
}

StepSeconds LayerCache::step(int64_t tokens) { return run(branch_, tokens, true); }
StepSeconds LayerCache::append_only(int64_t tokens) { return run(branch_, tokens, false); }

void LayerCache::wake_threads() {
    kvc_error err = no_error();
    const int64_t tokens = 1;
    kvc_step* step = kvc_step_begin(cache_, &short_, &tokens, 1, nullptr, 0, nullptr, &err);
    if (!step) give_up("step_begin", err);
    fill_inputs(tokens);
    if (kvc_append(step, 0, k_.data(), bytes_of(k_), v_.data(), bytes_of(v_), &err)) give_up("append", err);
    if (kvc_attend(step, 0, q_.data(), bytes_of(q_), out_.data(), bytes_of(out_), nullptr, 0, nullptr, &err)) give_up("attend", err);
    if (kvc_step_abort(step, &err)) give_up("step_abort", err);
}

void LayerCache::fill_inputs(int64_t tokens) {
    const Shape& shape = request_.shape;
    const size_t kv = size_t(tokens * shape.kv_heads * shape.head_dim), q = size_t(tokens * shape.q_heads * shape.head_dim);
    k_.resize(kv);
    v_.resize(kv);
    q_.resize(q);
    out_.resize(q);
    numbers_.fill(k_.data(), int64_t(kv), ++seed_);
    numbers_.fill(v_.data(), int64_t(kv), ++seed_);
    numbers_.fill(q_.data(), int64_t(q), ++seed_);
}

StepSeconds LayerCache::run(kvc_seq seq, int64_t tokens, bool attend) {
    kvc_error err = no_error();
    fill_inputs(tokens);
    StepSeconds took;
    const double start = seconds_now();
    kvc_step* step = kvc_step_begin(cache_, &seq, &tokens, 1, nullptr, 0, nullptr, &err);
    const double begun = seconds_now();
    if (!step) give_up("step_begin", err);
    if (kvc_append(step, 0, k_.data(), bytes_of(k_), v_.data(), bytes_of(v_), &err)) give_up("append", err);
    const double appended = seconds_now();
    if (attend && kvc_attend(step, 0, q_.data(), bytes_of(q_), out_.data(), bytes_of(out_), nullptr, 0, nullptr, &err)) {
        give_up("attend", err);
    }
    const double attended = seconds_now();
    if (kvc_step_commit(step, nullptr, 0, &err)) give_up("step_commit", err);
    const double committed = seconds_now();
    return {begun - start, appended - begun, attended - appended, committed - attended};
}

std::vector<float> LayerCache::read(kvc_part part, int64_t head) const {
    kvc_error err = no_error();
    int64_t live = 0;
    if (kvc_seq_live(cache_, branch_, 0, head, &live, &err)) give_up("seq_live", err);
    std::vector<float> out(size_t(live * request_.shape.head_dim));
    if (kvc_seq_read(cache_, branch_, 0, head, part, 0, live, out.data(), bytes_of(out), &err)) give_up("seq_read", err);
    return out;
}

}  // namespace bench

#include "core/cache/planner.h"

#include <algorithm>

#include "core/base/size.h"
#include "core/cache/moments.h"

namespace kvc {
namespace {

constexpr int64_t token_limit = int64_t{1} << 40;
constexpr int64_t sequence_limit = int64_t{1} << 24;

// The smallest arena whose own slab size serves every moment; invalid if it is beyond 64 bits. The sizes of arenas that choose a slab
// size lie above those that choose a smaller one, so that the first that serves is the smallest.
Size least_arena(const Moments& moments, int64_t largest) {
    const int64_t most = slab_bytes_for(INT64_MAX, largest);
    Size bytes = 0;
    for (int64_t slab = slab_bytes_min(largest); slab <= most; slab *= 2) {
        bytes = Size(moments.slabs(slab)) * slab;
        if (!bytes.valid()) continue;
        bytes = std::max(bytes.value(), arena_bytes_min(slab, largest));
        if (slab_bytes_for(bytes.value(), largest) == slab) return bytes;
    }
    return bytes;
}

// The moments of a request, with the budgets of sequences of its length.
Result<Moments> moments_of(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request) {
    const int64_t context = request.context_tokens > 0 ? request.context_tokens : request.tokens;
    Result<std::vector<LayerBudget>> budgets = resolve_budgets(policy, layers, context, 0);
    if (!budgets.ok()) return budgets.status();
    Moments moments(layers, policy, std::move(*budgets));
    moments.collect(request);
    return moments;
}

bool fits(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request, int64_t slab_bytes) {
    const Result<Moments> moments = moments_of(layers, policy, request);
    if (!moments.ok()) return true;  // a share of few tokens can be below what must stay, one of more tokens need not be
    return moments->slabs(slab_bytes) <= request.budget_bytes / slab_bytes;
}

// The largest n in 1 .. limit that fits, 0 if none does. What n holds, more than n holds, too: Moments sees to it for tokens.
template <class Fits>
int64_t largest_fitting(int64_t limit, const Fits& fits_n) {
    int64_t good = 0, bad = 1;
    while (bad <= limit && fits_n(bad)) {
        good = bad;
        bad *= 2;
    }
    bad = std::min(bad, limit + 1);
    while (bad - good > 1) {
        const int64_t middle = good + (bad - good) / 2;
        (fits_n(middle) ? good : bad) = middle;
    }
    return good;
}

Status check_request(const PlanRequest& request) {
    const auto check = [](const char* what, int64_t value, int64_t low, int64_t high) -> Status {
        if (value >= low && value <= high) return {};
        return fail(Code::argument, "plan: ", what, " ", value, " is out of range (", low, " .. ", high, ")");
    };
    KVC_TRY(check("tokens", request.tokens, 1, token_limit));
    KVC_TRY(check("sequences", request.sequences, 1, sequence_limit));
    KVC_TRY(check("step_tokens", request.step_tokens, 1, token_limit));
    return check("budget_bytes", request.budget_bytes, 0, INT64_MAX);
}

int64_t elements_per_token(const std::vector<Layer>& layers) {
    int64_t elements = 0;
    for (const Layer& layer : layers)
        elements += layer.kv_heads * (layer.format.k_dim + layer.format.v_dim);
    return elements;
}

}  // namespace

double codec_bits(const std::vector<Layer>& layers) {
    double bits = 0;
    for (const Layer& layer : layers) {
        bits += codec_bits(layer.format) * double(layer.kv_heads * (layer.format.k_dim + layer.format.v_dim));
    }
    return bits / double(elements_per_token(layers));
}

Size fp16_bytes(const std::vector<Layer>& layers, int64_t tokens) { return Size(tokens) * Size(elements_per_token(layers)) * Size(2); }

Result<Plan> plan_memory(const std::vector<Layer>& layers, const PolicySpec& policy, const PlanRequest& request) {
    KVC_TRY(check_request(request));
    const int64_t largest = largest_record(layers);
    const int64_t most = arena_bytes_max(slab_bytes_for(INT64_MAX, largest));
    const Status too_large = fail(Code::argument, "plan: ", request.sequences, " sequences of ", request.tokens,
                                  " tokens need more than the ", most, " bytes that an arena can hold");
    const Size fp16 = fp16_bytes(layers, request.tokens) * Size(request.sequences);
    if (!fp16.valid()) return too_large;  // below that, numbers of records are, too
    const Result<Moments> moments = moments_of(layers, policy, request);
    if (!moments.ok()) return moments.status();
    const Size arena = least_arena(*moments, largest);
    if (!arena.valid() || arena.value() > most) return too_large;

    Plan plan;
    plan.checkpoint_bytes = moments->bytes_of_checkpoint(request.tokens).value();
    plan.fp16_bytes = fp16.value();
    plan.arena_bytes = arena.value();
    plan.record_bytes = (moments->bytes_at_rest(request.tokens) * Size(request.sequences)).value();  // all lie in that arena
    plan.slab_bytes = slab_bytes_for(plan.arena_bytes, largest);
    plan.codec_bits = codec_bits(layers);
    plan.effective_bits = double(plan.record_bytes) * 16 / double(plan.fp16_bytes);
    if (request.budget_bytes > 0) {
        const int64_t slab = slab_bytes_for(request.budget_bytes, largest);
        PlanRequest probe = request;
        probe.budget_bytes = std::min(request.budget_bytes, arena_bytes_max(slab));
        plan.max_tokens = largest_fitting(token_limit, [&](int64_t n) { return probe.tokens = n, fits(layers, policy, probe, slab); });
        probe.tokens = request.tokens;
        plan.max_sequences =
            largest_fitting(sequence_limit, [&](int64_t n) { return probe.sequences = n, fits(layers, policy, probe, slab); });
    }
    return plan;
}

}  // namespace kvc

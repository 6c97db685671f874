#include "core/cache/parts.h"

#include <algorithm>

#include "core/cache/budget.h"
#include "core/cache/merge.h"
#include "core/cache/planner.h"

namespace kvc {
namespace {

Status check_arena_options(const CacheConfig& config) {
    const bool by_bytes = config.arena_bytes != 0, by_tokens = config.arena_tokens != 0;
    if (config.arena_bytes < 0) return fail(Code::argument, "arena_bytes ", config.arena_bytes, " is negative");
    if (config.arena_tokens < 0) return fail(Code::argument, "arena_tokens ", config.arena_tokens, " is negative");
    if (config.arena_sequences < 0) return fail(Code::argument, "arena_sequences ", config.arena_sequences, " is negative");
    if (by_bytes && by_tokens) {
        return fail(Code::argument, "arena_bytes ", config.arena_bytes, " and arena_tokens ", config.arena_tokens,
                    ": give one of them");
    }
    if (config.arena_sequences != 0 && !by_tokens) {
        return fail(Code::argument, "arena_sequences ", config.arena_sequences, " goes with arena_tokens only, which is 0");
    }
    if (!config.arena_block) return {};
    if (!by_bytes) return fail(Code::argument, "arena_block needs its size in arena_bytes, which is 0");
    if (config.arena_growth) return fail(Code::argument, "arena_block with arena_growth 1: a block of the caller's cannot grow");
    if (reinterpret_cast<uintptr_t>(config.arena_block) % 128 != 0) {
        return fail(Code::argument, "arena_block is not 128-byte aligned");
    }
    if (!config.device) return {};
    const Status place = config.device->check_memory(config.arena_block, config.arena_bytes, true);
    return place.code == Code::argument ? fail(Code::argument, "arena_block ", place.message) : place;
}

// Bytes of an arena that is asked for by tokens.
Result<int64_t> bytes_for_tokens(const CacheConfig& config, const CacheParts& parts) {
    const int64_t sequences = std::max<int64_t>(config.arena_sequences, 1);
    Result<Plan> plan = plan_memory(parts.layers, parts.policy,
                                    {.tokens = config.arena_tokens, .sequences = sequences, .context_tokens = config.context_tokens});
    if (plan.ok()) return plan->arena_bytes;
    return fail(plan.status().code, "arena_tokens ", config.arena_tokens, ", arena_sequences ", sequences, ": ", plan.status().message);
}

Result<ArenaOptions> make_arena(const CacheConfig& config, const CacheParts& parts, ArenaSize size) {
    KVC_TRY(check_arena_options(config));
    ArenaOptions options;
    options.growth = config.arena_growth;
    options.source = config.memory;
    options.device = config.device.get();
    options.block = config.arena_block;
    options.bytes = config.arena_bytes;
    if (config.arena_tokens != 0) {
        Result<int64_t> bytes = bytes_for_tokens(config, parts);
        if (!bytes.ok()) return bytes.status();
        options.bytes = *bytes;
    }
    if (options.bytes == 0 && !config.arena_growth && size == ArenaSize::required) {
        return fail(Code::argument, "arena: give arena_bytes, arena_tokens, or arena_growth");
    }
    options.slab_bytes = slab_bytes_for(options.bytes == 0 ? INT64_MAX : options.bytes, largest_record(parts.layers));
    const int64_t most = arena_bytes_max(options.slab_bytes);
    if (options.bytes > most) {
        return fail(Code::argument, "arena_bytes ", options.bytes, " is more than the ", most, " that a cache can address");
    }
    if (config.arena_bytes != 0 && options.bytes < options.slab_bytes && !config.arena_growth) {
        return fail(Code::argument, "arena_bytes ", options.bytes, " is less than one slab of ", options.slab_bytes);
    }
    return options;
}

}  // namespace

Result<CacheParts> check_parts(const CacheConfig& config, ArenaSize size) {
    CacheParts parts;
    Result<PolicySpec> policy = make_policy(config);
    if (!policy.ok()) return policy.status();
    parts.policy = std::move(*policy);
    Result<std::vector<Layer>> layers = make_layers(config, parts.policy);
    if (!layers.ok()) return layers.status();
    parts.layers = std::move(*layers);
    Result<const KernelTable*> kernels = choose_kernels(config, parts.layers);
    if (!kernels.ok()) return kernels.status();
    parts.kernels = *kernels;
    for (size_t i = 0; i < parts.layers.size() && parts.policy.merges(); i++) {
        if (parts.layers[i].policy_acts && parts.policy.merge.acts_on(int64_t(i), int64_t(parts.layers.size())))
            KVC_TRY(check_merging(parts.policy.merge, *parts.kernels, config.rope, parts.layers[i], int64_t(i)));
    }
    if (parts.policy && parts.policy.policy->traits.mass != MassUse::none && !parts.kernels->sums_mass) {
        return fail(Code::unsupported, "policy ", parts.policy.name(), ": target ", parts.kernels->name,
                    " has no kernels for attention mass");
    }
    KVC_TRY(check_budgets(parts.policy, parts.layers, config.context_tokens));
    Result<ArenaOptions> arena = make_arena(config, parts, size);
    if (!arena.ok()) return arena.status();
    parts.arena = *arena;
    return parts;
}

}  // namespace kvc

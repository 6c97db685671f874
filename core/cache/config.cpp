#include "core/cache/config.h"

#include <algorithm>
#include <cmath>

namespace kvc {
namespace {

constexpr int64_t layer_limit = 4096;
constexpr int64_t head_limit = 1024;
constexpr int64_t group_limit = 16;
constexpr int64_t dim_unit = 16;
constexpr int64_t sliding_limit = int64_t{1} << 40;
constexpr int64_t spare_limit = 1024;
constexpr int64_t thread_limit = 1024;
constexpr int64_t context_limit = int64_t{1} << 40;

Status check_range(const char* what, int64_t layer, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return {};
    return fail(Code::argument, what, " ", value, " of layer ", layer, " is out of range (", low, " .. ", high, ")");
}

Status check_dim(const char* what, int64_t layer, int64_t value) {
    KVC_TRY(check_range(what, layer, value, dim_unit, dim_limit));
    if (value % dim_unit == 0) return {};
    return fail(Code::argument, what, " ", value, " of layer ", layer, " is not a multiple of ", dim_unit);
}

// Frequencies of the layer, if anything turns inside kvc.
Status make_rope(const RopeConfig& rope, const LayerConfig& config, int64_t index, Layer* layer) {
    if (!rope.keys_before && !rope.in_cache) return {};
    const int64_t dims = rope.dims == 0 ? config.k_dim : rope.dims;
    KVC_TRY(check_range("rope_dims", index, dims, 2, config.k_dim));
    if (dims % 2 != 0) return fail(Code::argument, "rope_dims ", dims, " of layer ", index, " is odd");
    if (!std::isfinite(config.rope_theta) || config.rope_theta < 0) {
        return fail(Code::argument, "rope_theta ", config.rope_theta, " of layer ", index, " is negative or not finite");
    }
    if (rope.keys_before && layer->format.codec.k.rotate) {
        return fail(Code::unsupported, "layer ", index, ": keys before RoPE do not go with rotated keys (rot)");
    }
    // Without theta the caller sets the frequencies before the first sequence; until then they are no numbers.
    const double base = config.rope_theta == 0 ? std::nan("") : config.rope_theta;
    for (int64_t i = 0; i < dims / 2; i++) {
        const double frequency = std::pow(base, -2.0 * double(i) / double(dims));
        if (frequency > rope_frequency_limit) {
            return fail(Code::argument, "rope_theta ", config.rope_theta, " of layer ", index, ": frequency ", i, " is ", frequency,
                        ", the limit is ", rope_frequency_limit);
        }
        layer->rope_frequencies.push_back(frequency);
    }
    if (config.rope_theta == 0) layer->rope_frequencies[0] = base;
    return {};
}

// The other rungs of a ladder. Sinks and window are the same in all, and so is the basis: 16-bit parts take that of the codes to come.
Status make_lower_rungs(const Ladder& ladder, Layer* layer) {
    for (size_t r = 1; r < ladder.rungs.size(); r++) {
        CodecPair pair = ladder.rungs[r];
        pair.sinks = layer->rule.sinks;
        Result<LayerFormat> format = make_format(pair, layer->format.k_dim, layer->format.v_dim);
        if (!format.ok()) return format.status();
        const int64_t above = layer->rung(int64_t(r) - 1).code_bytes;
        if (format->code_bytes >= above) {
            return fail(Code::unsupported, "codec: rung ", int64_t(r), " of the ladder takes ", format->code_bytes,
                        " bytes a page, not less than the ", above, " of the rung above it");
        }
        layer->lower.push_back(*format);
        layer->ages.push_back(ladder.ages[r]);
    }
    for (const auto part : {&CodecPair::k, &CodecPair::v}) {
        bool rotated = (layer->format.codec.*part).rotate;
        for (const LayerFormat& format : layer->lower)
            rotated |= (format.codec.*part).rotate;
        (layer->format.codec.*part).rotate = rotated;
        for (LayerFormat& format : layer->lower)
            (format.codec.*part).rotate = rotated;
    }
    return {};
}

Result<Layer> make_layer(const CacheConfig& cache, const PolicySpec& policy, int64_t index) {
    const LayerConfig& config = cache.layers[size_t(index)];
    KVC_TRY(check_range("kv_heads", index, config.kv_heads, 1, head_limit));
    KVC_TRY(check_range("q_heads", index, config.q_heads, config.kv_heads, config.kv_heads * group_limit));
    if (config.q_heads % config.kv_heads != 0) {
        return fail(Code::argument, "q_heads ", config.q_heads, " of layer ", index, " is not a multiple of kv_heads ",
                    config.kv_heads);
    }
    KVC_TRY(check_dim("k_dim", index, config.k_dim));
    KVC_TRY(check_dim("v_dim", index, config.v_dim));
    KVC_TRY(check_range("sliding_window", index, config.sliding_window, 0, sliding_limit));
    Result<Ladder> ladder = parse_ladder(config.codec);
    const std::string origin = config.codec_origin.empty() ? "" : config.codec_origin + ": ";
    if (!ladder.ok()) return fail(ladder.status().code, origin, "layer ", index, ": ", ladder.status().message);
    const bool policy_acts = policy && config.sliding_window == 0;
    CodecPair* const codec = ladder->rungs.data();
    if (policy_acts) codec->sinks = std::max(codec->sinks, policy.sinks);
    Result<LayerFormat> format = make_format(*codec, config.k_dim, config.v_dim);
    if (!format.ok()) return fail(format.status().code, origin, "layer ", index, ": ", format.status().message);
    Layer layer;
    layer.format = *format;
    layer.window_rows = window_as_codes(*format);
    layer.kv_heads = config.kv_heads;
    layer.q_heads = config.q_heads;
    layer.rule.sinks = codec->sinks;
    layer.rule.window = codec->window;
    layer.rule.spare = format->lossless ? 0 : cache.spare_pages;
    layer.rule.sliding_window = config.sliding_window;
    layer.rule.lossless = format->lossless;
    layer.policy_acts = policy_acts;
    if (Status lower = make_lower_rungs(*ladder, &layer); !lower.ok())
        return fail(lower.code, origin, "layer ", index, ": ", lower.message);
    KVC_TRY(make_rope(cache.rope, config, index, &layer));
    return layer;
}

}  // namespace

Result<PolicySpec> make_policy(const CacheConfig& config) {
    Result<PolicySpec> policy = parse_policy(config.policy);
    if (!policy.ok()) return policy;
    if (config.context_tokens < 0 || config.context_tokens > context_limit) {
        return fail(Code::argument, "context_tokens ", config.context_tokens, " is out of range (0 .. 2^40)");
    }
    if (*policy && !policy->policy->traits.by_position && config.rope.in_cache) {
        return fail(Code::unsupported, "policy ", policy->name(),
                    ": in-cache positions allow a gap behind the sinks only, which streaming leaves");
    }
    return policy;
}

Result<std::vector<Layer>> make_layers(const CacheConfig& config, const PolicySpec& policy) {
    const int64_t count = int64_t(config.layers.size());
    if (count < 1 || count > layer_limit) return fail(Code::argument, "layers ", count, " is out of range (1 .. ", layer_limit, ")");
    if (config.spare_pages < 0 || config.spare_pages > spare_limit) {
        return fail(Code::argument, "spare_pages ", config.spare_pages, " is out of range (0 .. ", spare_limit, ")");
    }
    if (config.threads < 0 || config.threads > thread_limit) {
        return fail(Code::argument, "threads ", config.threads, " is out of range (0 .. ", thread_limit, ")");
    }
    std::vector<Layer> layers;
    for (int64_t i = 0; i < count; i++) {
        Result<Layer> layer = make_layer(config, policy, i);
        if (!layer.ok()) return layer.status();
        layers.push_back(*layer);
    }
    return layers;
}

std::vector<int64_t> record_sizes(const std::vector<Layer>& layers) {
    std::vector<int64_t> sizes = {side_bytes};
    for (const Layer& layer : layers) {
        for (int64_t bytes : {layer.format.sink_bytes, layer.format.window_bytes, layer.format.code_bytes})
            sizes.push_back(bytes);
        for (const LayerFormat& format : layer.lower)
            sizes.push_back(format.code_bytes);
    }
    return sizes;
}

int64_t largest_record(const std::vector<Layer>& layers) {
    const std::vector<int64_t> sizes = record_sizes(layers);
    return *std::max_element(sizes.begin(), sizes.end());
}

Status check_kernels(const KernelTable& table, const RopeConfig& rope, const std::vector<Layer>& layers) {
    if (rope.keys_before && !table.rotates_keys) {
        return fail(Code::unsupported, "target ", table.name, " has no kernels for keys before RoPE");
    }
    for (size_t i = 0; i < layers.size(); i++) {
        for (int64_t r = 0; r < layers[i].rungs(); r++) {
            const LayerFormat& format = layers[i].rung(r);
            const char* reason = table.unsupported ? table.unsupported(format) : nullptr;
            if (!reason) continue;
            return fail(Code::unsupported, "target ", table.name, " does not serve layer ", int64_t(i), " (",
                        format_codec(format.codec), "): ", reason);
        }
    }
    return {};
}

// A table that lacks something is refused by name and never replaced by another one unasked: its speed is what the caller counts on.
Result<const KernelTable*> choose_kernels(const CacheConfig& config, const std::vector<Layer>& layers) {
    if (config.device) {
        const KernelTable& table = config.device->records();
        if (!config.target.empty() && config.target != table.name) {
            return fail(Code::unsupported, "target \"", config.target, "\" does not run on the device, whose kernels are ", table.name);
        }
        KVC_TRY(check_kernels(table, config.rope, layers));
        return &table;
    }
    std::string names, serving;
    Status refused;
    for (int i = 0; i < kernel_table_count(); i++) {
        const KernelTable* table = kernel_table(i);
        const bool named = config.target.empty() || config.target == table->name;
        const Status status = check_kernels(*table, config.rope, layers);
        if (named && status.ok() && refused.ok()) return table;
        if (named && refused.ok()) refused = status;
        names += (names.empty() ? "" : " ") + std::string(table->name);
        if (status.ok()) serving += (serving.empty() ? "" : " ") + std::string(table->name);
    }
    if (refused.ok()) {
        return fail(Code::unsupported, "target \"", config.target, "\" does not run on this machine (those that do: ", names, ")");
    }
    return fail(refused.code, refused.message, "; targets that do: ", serving.empty() ? "none" : serving);
}

int64_t pages_of_age(const Layer& layer, int64_t rung, int64_t boundary) {
    const int64_t age = layer.ages[size_t(rung - 1)];
    if (age == 0) return 0;
    // A page is as old as its newest token.
    const int64_t pages = std::max<int64_t>(0, boundary - age - layer.rule.sinks) / page_tokens;
    return std::min(pages, layer.rule.first_fp16_page(boundary));
}

bool has_ages(const std::vector<Layer>& layers) {
    const auto grows_old = [](const Layer& layer) {
        return std::any_of(layer.ages.begin(), layer.ages.end(), [](int64_t age) { return age > 0; });
    };
    return std::any_of(layers.begin(), layers.end(), grows_old);
}

Ladder ladder_of(const Layer& layer) {
    Ladder ladder = {{layer.format.codec}, {0}};
    for (size_t r = 0; r < layer.lower.size(); r++) {
        ladder.rungs.push_back(layer.lower[r].codec);
        ladder.ages.push_back(layer.ages[r]);
    }
    return ladder;
}

}  // namespace kvc

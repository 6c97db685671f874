// What a cache is made of, checked once: every layer's shapes, record format and page rule.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/backend/kernel_table.h"
#include "core/codec/format.h"
#include "core/policy/spec.h"
#include "core/store/arena.h"
#include "core/store/page_rule.h"

namespace kvc {

struct RopeConfig {
    bool keys_before = false;  // keys are stored unturned
    bool in_cache = false;     // positions close the gap behind the sinks
    bool interleaved = false;
    int64_t dims = 0;  // 0: k_dim
};

struct LayerConfig {
    int64_t kv_heads = 0, q_heads = 0, k_dim = 0, v_dim = 0;
    int64_t sliding_window = 0;
    double rope_theta = 0;
    std::string codec;         // preset name or codec string
    std::string codec_origin;  // the line of a calibration file that names it; empty: the caller
};

struct CacheConfig {
    std::vector<LayerConfig> layers;
    std::string target;  // kernel table to force; empty: the best
    RopeConfig rope;
    std::string policy;          // policy string; empty: nothing is evicted
    int64_t context_tokens = 0;  // what a budget in percent is a share of; 0: each sequence's prompt length
    int64_t spare_pages = 0;
    int64_t threads = 0;
    bool saturate = false;

    int64_t arena_bytes = 0;  // or arena_tokens and arena_sequences
    int64_t arena_tokens = 0, arena_sequences = 0;
    void* arena_block = nullptr;
    bool arena_growth = false;
    SlabSource slab_source;
};

// One layer, ready for use.
struct Layer {
    LayerFormat format;
    PageRule rule;
    int64_t kv_heads = 0, q_heads = 0;
    std::vector<double> rope_frequencies;  // empty: nothing turns inside kvc
    bool policy_acts = false;              // layers with a sliding window are bounded already and left alone

    int64_t group() const { return q_heads / kv_heads; }
};

// A frequency beyond this is refused, so that no angle overflows at any position.
constexpr double rope_frequency_limit = 1e9;

// The policy that a configuration names, and whether its positions allow it.
Result<PolicySpec> make_policy(const CacheConfig& config);
// Checks every layer; the message names the layer and the limit.
Result<std::vector<Layer>> make_layers(const CacheConfig& config, const PolicySpec& policy);
// All record sizes of those layers, side records included.
std::vector<int64_t> record_sizes(const std::vector<Layer>& layers);
int64_t largest_record(const std::vector<Layer>& layers);
// Whether a table serves all layers; otherwise the message says which one not, and why.
Status check_kernels(const KernelTable& table, const RopeConfig& rope, const std::vector<Layer>& layers);
// The forced or best kernel table. If that one does not serve the layers, none is chosen: the message names those that do.
Result<const KernelTable*> choose_kernels(const CacheConfig& config, const std::vector<Layer>& layers);

}  // namespace kvc

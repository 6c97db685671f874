// What a cache is made of, checked once: every layer's shapes, record format and page rule.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/backend/device.h"
#include "core/codec/format.h"
#include "core/codec/ladder.h"
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
    MemorySource memory;             // the caller's: of slabs, or of all that the device takes
    std::shared_ptr<Device> device;  // nullptr: the host
};

// One layer, ready for use.
struct Layer {
    LayerFormat format;
    LayerFormat window_rows;  // what its window's pages are as a source of recodes
    PageRule rule;
    int64_t kv_heads = 0, q_heads = 0;
    std::vector<double> rope_frequencies;  // empty: nothing turns inside kvc
    bool policy_acts = false;              // layers with a sliding window are bounded already and left alone
    // Forms that coded pages can be stepped down to, each with smaller records than the one before; `format` is rung 0.
    std::vector<LayerFormat> lower;
    std::vector<int64_t> ages;  // of each of them: tokens behind the newest one; 0: by hand only

    int64_t group() const { return q_heads / kv_heads; }
    int64_t rungs() const { return int64_t(lower.size()) + 1; }
    const LayerFormat& rung(int64_t r) const { return r == 0 ? format : lower[size_t(r - 1)]; }
    // Which rung a coded page's record is of: their sizes differ.
    int64_t rung_of_bytes(int64_t record_bytes) const {
        int64_t r = int64_t(lower.size());
        while (r > 0 && lower[size_t(r - 1)].code_bytes != record_bytes)
            r--;
        return r;
    }
};

// Pages grow old at boundaries of so many tokens, by position, so that no cut of a stream changes what is stored.
constexpr int64_t age_period = 512;
// Pages, from page 0 on, that are old enough for that rung (from 1 on) at a boundary.
int64_t pages_of_age(const Layer& layer, int64_t rung, int64_t boundary);
bool has_ages(const std::vector<Layer>& layers);
// What the layer's codec string says in full, with the sinks that are in force.
Ladder ladder_of(const Layer& layer);

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

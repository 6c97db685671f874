// What a cache is told about eviction: a policy, its budget and when it acts. The text form is docs/POLICIES.md's grammar.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/policy/merging.h"
#include "core/policy/policy.h"

namespace kvc {

enum class BudgetUnit : uint8_t { tokens, share, bytes };
enum class Acting : uint8_t { every, commit, never };  // never: only when kvc_evict is called
enum class MassMode : uint8_t { exact, observed, page };
enum class LayerShare : uint8_t { uniform, pyramid, given };

// Tokens, bytes, or a share in thousandths of a percent.
struct Amount {
    BudgetUnit unit = BudgetUnit::tokens;
    int64_t value = 0;

    bool operator==(const Amount&) const = default;
    int64_t of(int64_t whole) const;  // tokens that a share, or a number of tokens, comes to
};

constexpr int64_t policy_sinks_limit = 64;

struct PolicySpec {
    const Policy* policy = nullptr;        // nullptr: nothing is evicted
    const PolicyPreset* preset = nullptr;  // what the text named, if that was one
    Amount budget;                         // kept per layer and kv head, on average over the layers; or bytes of a sequence
    int64_t sinks = 4;
    Amount recent;  // newest tokens that always stay; a share of the budget
    Acting acting = Acting::every;
    int64_t every = 64;  // positions between two boundaries
    MassMode mass = MassMode::exact;
    int64_t observe = 0;  // newest positions before each decision whose queries count; 0: all
    Pooling pooling = Pooling::none;
    int64_t pool_width = 1;
    LayerShare layers = LayerShare::uniform;
    std::vector<int64_t> layer_weights;  // thousandths; the last one stands for all further layers
    bool heads_compete = false;
    int64_t head_floor = 20'000;  // thousandths of a percent of what a competing head's budget leaves behind what must stay

    MergeRule merge;  // what becomes of the tokens that leave

    explicit operator bool() const { return policy != nullptr; }
    // For messages: the name that the text had, and what a preset stands for.
    std::string name() const { return preset ? std::string(preset->name) + " (" + policy->name + ")" : policy->name; }
    // Acts by itself at boundaries that no step may cross.
    bool has_boundaries() const { return policy && !policy->traits.by_position && acting == Acting::every; }
    // A rule of positions alone, which needs no boundaries.
    bool is_closed_rule() const { return policy && policy->traits.by_position && acting == Acting::every; }
    // Its mass comes by pages, which share what their tokens get together.
    bool sums_pages() const { return policy && policy->traits.mass != MassUse::none && mass == MassMode::page; }
    bool merges() const { return policy && merge.parts != MergeParts::none; }
    // Weight of a layer, any unit.
    int64_t weight_of(int64_t layer, int64_t layers_in_all) const;
};

// Parses "" or "none" (no policy) and "name:..."; the one place that knows the grammar.
Result<PolicySpec> parse_policy(std::string_view text);
// The canonical string: it parses to the same spec.
std::string format_policy(const PolicySpec& spec);

}  // namespace kvc

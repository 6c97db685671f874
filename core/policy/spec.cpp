// The grammar of policy strings, in both directions. docs/POLICIES.md describes it for people.
#include "core/policy/spec.h"

#include <algorithm>
#include <optional>
#include <span>

namespace kvc {
namespace {

constexpr int64_t percent = 1000;  // shares count in thousandths of a percent
constexpr int64_t token_limit = int64_t{1} << 40;
constexpr int64_t every_limit = 65536;
constexpr int64_t weight_limit = 1000 * 1000;
constexpr int64_t pool_limit = 63;
constexpr int64_t layer_limit = 4096;
constexpr int64_t page_period = 64;  // what position rules move by: a page

template <class Value>
struct Word {
    const char* text;
    Value value;
};

constexpr Word<MassMode> mass_words[] = {{"exact", MassMode::exact}, {"observed", MassMode::observed}, {"page", MassMode::page}};
constexpr Word<MergeParts> merge_words[] = {
    {"none", MergeParts::none}, {"values", MergeParts::values}, {"keys+values", MergeParts::keys_and_values}};
constexpr Word<bool> switch_words[] = {{"on", true}, {"off", false}};
constexpr Word<int64_t> byte_units[] = {{"GiB", int64_t{1} << 30}, {"MiB", int64_t{1} << 20}, {"KiB", int64_t{1} << 10}, {"B", 1}};

template <class Value>
std::optional<Value> find_word(std::span<const Word<Value>> words, std::string_view text) {
    for (const Word<Value>& word : words) {
        if (text == word.text) return word.value;
    }
    return std::nullopt;
}

std::string_view take(std::string_view* rest, char separator) {
    const size_t at = rest->find(separator);
    const std::string_view word = rest->substr(0, at);
    *rest = at == std::string_view::npos ? std::string_view() : rest->substr(at + 1);
    return word;
}

// Digits only, without leading zeros, so that one number has one spelling.
std::optional<int64_t> parse_count(std::string_view digits, int64_t low, int64_t high) {
    if (digits.empty() || digits.size() > 15 || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
    int64_t value = 0;
    for (const char c : digits) {
        if (c < '0' || c > '9') return std::nullopt;
        value = value * 10 + (c - '0');
    }
    return value >= low && value <= high ? std::optional(value) : std::nullopt;
}

// A number with at most three decimals, in thousandths.
std::optional<int64_t> parse_thousandths(std::string_view text, int64_t low, int64_t high) {
    std::string_view rest = text;
    const std::optional<int64_t> whole = parse_count(take(&rest, '.'), 0, high / 1000 + 1);
    if (!whole || (text.find('.') != std::string_view::npos && (rest.empty() || rest.size() > 3 || rest.back() == '0')))
        return std::nullopt;
    int64_t value = *whole * 1000;
    for (int64_t unit = 100; !rest.empty(); rest.remove_prefix(1), unit /= 10) {
        if (rest[0] < '0' || rest[0] > '9') return std::nullopt;
        value += (rest[0] - '0') * unit;
    }
    return value >= low && value <= high ? std::optional(value) : std::nullopt;
}

std::string format_thousandths(int64_t value) {
    std::string text = std::to_string(value / 1000);
    if (value % 1000 == 0) return text;
    std::string decimals = std::to_string(1000 + value % 1000).substr(1);
    while (decimals.back() == '0')
        decimals.pop_back();
    return text + "." + decimals;
}

// "409", "20%", or where bytes are allowed "64MiB".
std::optional<Amount> parse_amount(std::string_view text, bool bytes, int64_t low) {
    if (!text.empty() && text.back() == '%') {
        const auto share = parse_thousandths(text.substr(0, text.size() - 1), low, 100 * percent);
        return share ? std::optional(Amount{BudgetUnit::share, *share}) : std::nullopt;
    }
    for (const Word<int64_t>& unit : byte_units) {
        const std::string_view suffix = unit.text;
        if (!bytes || !text.ends_with(suffix)) continue;
        const auto count = parse_count(text.substr(0, text.size() - suffix.size()), 1, (int64_t{1} << 60) / unit.value);
        return count ? std::optional(Amount{BudgetUnit::bytes, *count * unit.value}) : std::nullopt;
    }
    const auto tokens = parse_count(text, low, token_limit);
    return tokens ? std::optional(Amount{BudgetUnit::tokens, *tokens}) : std::nullopt;
}

std::string format_amount(const Amount& amount) {
    if (amount.unit == BudgetUnit::share) return format_thousandths(amount.value) + "%";
    if (amount.unit == BudgetUnit::tokens) return std::to_string(amount.value);
    for (const Word<int64_t>& unit : byte_units) {
        if (amount.value % unit.value == 0) return std::to_string(amount.value / unit.value) + unit.text;
    }
    return {};
}

// ---- The keys: each says whether its value was one ----

using Set = bool (*)(PolicySpec& spec, std::string_view value);

bool set_budget(PolicySpec& spec, std::string_view value) {
    const auto amount = parse_amount(value, true, 1);
    if (amount) spec.budget = *amount;
    return amount.has_value();
}

bool set_sinks(PolicySpec& spec, std::string_view value) {
    const auto count = parse_count(value, 0, policy_sinks_limit);
    if (count) spec.sinks = *count;
    return count.has_value();
}

bool set_recent(PolicySpec& spec, std::string_view value) {
    const auto amount = parse_amount(value, false, 0);
    if (amount) spec.recent = *amount;
    return amount.has_value();
}

bool set_every(PolicySpec& spec, std::string_view value) {
    const auto count = parse_count(value, 1, every_limit);
    spec.acting = value == "commit" ? Acting::commit : value == "never" ? Acting::never : Acting::every;
    if (count) spec.every = *count;
    return count.has_value() || spec.acting != Acting::every;
}

bool set_mass(PolicySpec& spec, std::string_view value) {
    const auto mode = find_word<MassMode>(mass_words, value);
    if (mode) spec.mass = *mode;
    return mode.has_value();
}

bool set_observe(PolicySpec& spec, std::string_view value) {
    const auto count = parse_count(value, 1, every_limit);
    if (count) spec.observe = *count;
    return count.has_value();
}

bool set_pool(PolicySpec& spec, std::string_view value) {
    spec.pooling = value.starts_with("avg") ? Pooling::average : value.starts_with("max") ? Pooling::maximum : Pooling::none;
    spec.pool_width = 1;
    if (spec.pooling == Pooling::none) return value == "none";
    const auto width = parse_count(value.substr(3), 3, pool_limit);
    if (width) spec.pool_width = *width;
    return width && *width % 2 == 1;
}

bool set_layers(PolicySpec& spec, std::string_view value) {
    spec.layers = value == "uniform" ? LayerShare::uniform : value == "pyramid" ? LayerShare::pyramid : LayerShare::given;
    spec.layer_weights.clear();
    if (spec.layers != LayerShare::given) return true;
    if (value.empty() || value.back() == '/') return false;
    while (!value.empty()) {
        const auto weight = parse_thousandths(take(&value, '/'), 1, weight_limit);
        if (!weight) return false;
        spec.layer_weights.push_back(*weight);
    }
    return true;
}

bool set_heads(PolicySpec& spec, std::string_view value) {
    spec.heads_compete = value == "ada";
    return value == "ada" || value == "uniform";
}

bool set_floor(PolicySpec& spec, std::string_view value) {
    const auto amount = parse_amount(value, false, 0);
    if (!amount || amount->unit != BudgetUnit::share) return false;
    spec.head_floor = amount->value;
    return true;
}

bool set_merge(PolicySpec& spec, std::string_view value) {
    const auto parts = find_word<MergeParts>(merge_words, value);
    if (parts) spec.merge.parts = *parts;
    return parts.has_value();
}

bool set_merge_threshold(PolicySpec& spec, std::string_view value) {
    if (value == "none") return spec.merge.threshold = MergeRule::no_threshold, true;
    const auto cosine = parse_thousandths(value, 0, 1000);
    if (cosine) spec.merge.threshold = *cosine;
    return cosine.has_value();
}

bool set_merge_bias(PolicySpec& spec, std::string_view value) {
    const auto on = find_word<bool>(switch_words, value);
    if (on) spec.merge.bias = *on;
    return on.has_value();
}

// "12..29", both included, "middle" or "all".
bool set_merge_layers(PolicySpec& spec, std::string_view value) {
    spec.merge.first_layer = 0, spec.merge.last_layer = INT64_MAX;
    spec.merge.middle_layers = value == "middle";
    if (value == "all" || value == "middle") return true;
    const size_t dots = value.find("..");
    if (dots == std::string_view::npos) return false;
    const auto first = parse_count(value.substr(0, dots), 0, layer_limit - 1);
    const auto last = parse_count(value.substr(dots + 2), 0, layer_limit - 1);
    if (!first || !last || *first > *last) return false;
    spec.merge.first_layer = *first, spec.merge.last_layer = *last;
    return true;
}

struct Key {
    const char* name;
    Set set;
    const char* allowed;
    bool (*applies)(const PolicySpec& spec);
};

bool always(const PolicySpec&) { return true; }
bool by_score(const PolicySpec& spec) { return !spec.policy->traits.by_position; }
bool accumulates(const PolicySpec& spec) { return spec.policy->traits.mass == MassUse::accumulated; }
bool uses_mass(const PolicySpec& spec) { return spec.policy->traits.mass != MassUse::none; }
bool observes(const PolicySpec& spec) { return uses_mass(spec) && (!accumulates(spec) || spec.mass == MassMode::observed); }
bool pools(const PolicySpec& spec) { return spec.policy->traits.pooling != Pooling::none; }
bool competes(const PolicySpec& spec) { return spec.heads_compete; }
bool evicts(const PolicySpec& spec) { return !spec.is_closed_rule(); }  // a rule of positions drops whole pages: nothing to fold
bool merges(const PolicySpec& spec) { return spec.merges(); }

constexpr Key keys[] = {
    {"budget", set_budget, "tokens, a percentage or bytes such as 64MiB", always},
    {"sinks", set_sinks, "0 .. 64", always},
    {"recent", set_recent, "tokens or a percentage of the budget (at most 100%)", by_score},
    {"every", set_every, "1 .. 65536, commit or never", always},
    {"mass", set_mass, "exact, observed or page", uses_mass},
    {"observe", set_observe, "1 .. every", observes},
    {"pool", set_pool, "none, avgN or maxN with an odd N of 3 .. 63", pools},
    {"layers", set_layers, "uniform, pyramid, or weights such as 2/1", always},
    {"heads", set_heads, "uniform or ada", by_score},
    {"floor", set_floor, "a percentage of the budget", competes},
    {"merge", set_merge, "none, values or keys+values", evicts},
    {"merge_threshold", set_merge_threshold, "none, or a cosine of 0 .. 1", merges},
    {"merge_bias", set_merge_bias, "on or off", merges},
    {"merge_layers", set_merge_layers, "all, middle, or the first and the last layer, as in 12..29", merges},
};

Status needs_budget(const PolicySpec& spec) {
    const char* const written = spec.preset ? spec.preset->name : spec.policy->name;
    return fail(Code::argument, "policy ", spec.name(), ": it needs a budget, as in ", written, ":20%");
}

Status check_spec(const PolicySpec& spec, std::span<const bool> given) {
    for (size_t i = 0; i < std::size(keys); i++) {
        if (given[i] && !keys[i].applies(spec))
            return fail(Code::argument, "policy ", spec.name(), ": ", keys[i].name, " does not go with it");
    }
    if (spec.budget.value == 0) return needs_budget(spec);
    if (spec.observe > spec.every) {
        return fail(Code::argument, "policy ", spec.name(), ": observe ", spec.observe, " is longer than every ", spec.every);
    }
    const PolicyTraits& traits = spec.policy->traits;
    if (traits.mean && spec.mass == MassMode::observed && spec.acting != Acting::every) {
        return fail(Code::argument, "policy ", spec.name(),
                    ": how many of the observed queries have seen a token is known with every=N alone");
    }
    if (traits.given && spec.acting != Acting::never) {
        return fail(Code::argument, "policy ", spec.name(), ": it acts when kvc_evict brings scores; write every=never");
    }
    if (traits.by_position && spec.acting == Acting::every && spec.every != page_period) {
        return fail(Code::argument, "policy ", spec.name(), ": it acts page by page: every is 64, commit or never");
    }
    return {};
}

// "4+512": sinks and newest tokens.
bool set_sum(PolicySpec& spec, std::string_view value) {
    const std::string_view sinks = take(&value, '+');
    const auto newest = parse_count(value, 1, token_limit - policy_sinks_limit);
    if (!newest || !set_sinks(spec, sinks)) return false;
    spec.budget = {BudgetUnit::tokens, spec.sinks + *newest};
    return true;
}

std::string key_list() {
    std::string list;
    for (const Key& key : keys)
        list += (list.empty() ? "" : " ") + std::string(key.name);
    return list;
}

Status set_item(PolicySpec& spec, std::string_view item, bool first, std::span<bool> given) {
    const std::string name = spec.name();
    if (item.find('=') == std::string_view::npos) {
        const bool sum = item.find('+') != std::string_view::npos;
        if (first) given[0] = true, given[1] = sum;
        if (first && (sum ? set_sum(spec, item) : set_budget(spec, item))) return {};
        if (!first) return fail(Code::argument, "policy ", name, ": \"", std::string(item), "\" is no key=value such as ", key_list());
        return fail(Code::argument, "policy ", name, ": \"", std::string(item), "\" is no budget such as 409, 20%, 4+512 or 64MiB");
    }
    std::string_view value = item;
    const std::string_view key = take(&value, '=');
    for (size_t i = 0; i < std::size(keys); i++) {
        if (key != keys[i].name) continue;
        if (given[i]) return fail(Code::argument, "policy ", name, ": ", keys[i].name, " is given twice");
        given[i] = true;
        if (keys[i].set(spec, value)) return {};
        return fail(Code::argument, "policy ", name, ": ", keys[i].name, " is \"", std::string(value), "\", not ", keys[i].allowed);
    }
    return fail(Code::argument, "policy ", name, ": it has no key \"", std::string(key), "\" (", key_list(), ")");
}

std::string policy_list() {
    std::string all;
    for (int i = 0; i < policy_count(); i++)
        all += std::string(i ? " " : "") + policy_at(i).name;
    for (int i = 0; i < policy_preset_count(); i++)
        all += std::string(" ") + policy_preset_at(i).name;
    return all;
}

}  // namespace

int64_t Amount::of(int64_t whole) const {
    if (unit != BudgetUnit::share) return value;
    // In two parts, so that 2^53 tokens times a share does not overflow.
    return whole / (100 * percent) * value + whole % (100 * percent) * value / (100 * percent);
}

int64_t PolicySpec::weight_of(int64_t layer, int64_t layers_in_all) const {
    if (layers == LayerShare::given) return layer_weights[size_t(std::min<int64_t>(layer, int64_t(layer_weights.size()) - 1))];
    // PyramidKV (Cai et al., arXiv 2406.02069): a falling line; here from three halves of the mean to one half.
    if (layers == LayerShare::pyramid && layers_in_all > 1) return 1500 - 1000 * layer / (layers_in_all - 1);
    return 1000;
}

Result<PolicySpec> parse_policy(std::string_view text) {
    PolicySpec spec;
    if (text.empty() || text == "none") return spec;
    std::string_view rest = text;
    const std::string name(take(&rest, ':'));
    spec.preset = find_policy_preset(name.c_str());
    spec.policy = find_policy(spec.preset ? spec.preset->policy : name.c_str());
    if (!spec.policy) return fail(Code::argument, "policy \"", name, "\" is not one of: none ", policy_list());
    if (name.size() == text.size()) return needs_budget(spec);
    const PolicyTraits& traits = spec.policy->traits;
    spec.recent = {BudgetUnit::share, traits.recent_percent * percent};
    spec.pooling = traits.pooling;
    spec.pool_width = traits.pool_width;
    if (traits.merges) spec.merge = {.parts = MergeParts::keys_and_values, .threshold = MergeRule::no_threshold};
    bool preset_given[std::size(keys)] = {}, given[std::size(keys)] = {};
    for (std::string_view settings = spec.preset ? spec.preset->settings : ""; !settings.empty();)
        KVC_TRY(set_item(spec, take(&settings, ','), false, preset_given));
    bool first = true;
    do {
        KVC_TRY(set_item(spec, take(&rest, ','), first, given));
        first = false;
    } while (!rest.empty());
    if (text.back() == ',') return fail(Code::argument, "policy ", name, ": something is missing after the last comma");
    if (spec.observe == 0) spec.observe = std::min(spec.every, spec.mass == MassMode::observed ? int64_t{32} : traits.observe);
    KVC_TRY(check_spec(spec, given));
    return spec;
}

std::string format_policy(const PolicySpec& spec) {
    if (!spec.policy) return "none";
    std::string text =
        std::string(spec.policy->name) + ":budget=" + format_amount(spec.budget) + ",sinks=" + std::to_string(spec.sinks);
    const auto add = [&](const char* key, const std::string& value) { text += std::string(",") + key + "=" + value; };
    if (by_score(spec)) add("recent", format_amount(spec.recent));
    const char* const acting = spec.acting == Acting::commit ? "commit" : "never";
    add("every", spec.acting == Acting::every ? std::to_string(spec.every) : acting);
    for (const Word<MassMode>& word : mass_words) {
        if (uses_mass(spec) && spec.mass == word.value) add("mass", word.text);
    }
    if (observes(spec)) add("observe", std::to_string(spec.observe));
    if (pools(spec)) {
        const char* const kind = spec.pooling == Pooling::average ? "avg" : "max";
        add("pool", spec.pooling == Pooling::none ? "none" : kind + std::to_string(spec.pool_width));
    }
    std::string weights;
    for (const int64_t weight : spec.layer_weights)
        weights += (weights.empty() ? "" : "/") + format_thousandths(weight);
    if (spec.layers != LayerShare::uniform) add("layers", spec.layers == LayerShare::pyramid ? "pyramid" : weights);
    if (spec.heads_compete) add("heads", "ada"), add("floor", format_thousandths(spec.head_floor) + "%");
    for (const Word<MergeParts>& word : merge_words) {
        if (spec.merge.parts == word.value && (spec.merges() || spec.policy->traits.merges)) add("merge", word.text);
    }
    if (!spec.merges()) return text;
    const bool bounded = spec.merge.threshold != MergeRule::no_threshold;
    add("merge_threshold", bounded ? format_thousandths(spec.merge.threshold) : "none");
    add("merge_bias", spec.merge.bias ? "on" : "off");
    if (spec.merge.middle_layers) {
        add("merge_layers", "middle");
    } else if (spec.merge.last_layer != INT64_MAX) {
        add("merge_layers", std::to_string(spec.merge.first_layer) + ".." + std::to_string(spec.merge.last_layer));
    }
    return text;
}

}  // namespace kvc

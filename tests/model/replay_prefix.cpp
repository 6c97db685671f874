// The replayer's prefix index.
#include "tests/model/replay.h"

namespace kvc_scripts {
void Replay::publish(const Operation& operation, Outcome& outcome) {
    const std::vector<int64_t> tokens = prompt_tokens(operation);
    const std::string salt = operation.word("salt", "");
    kvc_prefix_options o;
    kvc_prefix_options_init(&o, sizeof o);
    o.pinned = static_cast<int32_t>(operation.number("pinned"));
    o.seal = static_cast<int32_t>(operation.number("seal"));
    outcome.status = kvc_prefix_publish(cache_, handle_of(operation.name(0)), tokens.data(), static_cast<int64_t>(tokens.size()),
                                        salt.data(), static_cast<int64_t>(salt.size()), &o, &error_);
}

void Replay::lookup(const Operation& operation, Outcome& outcome) {
    const std::vector<int64_t> tokens = prompt_tokens(operation);
    const std::string salt = operation.word("salt", "");
    kvc_seq_options o;
    kvc_seq_options_init(&o, sizeof o);
    o.first_position = operation.number("first_position"), o.prompt_length = operation.number("prompt_length");
    kvc_prefix_hit hit{};
    hit.struct_size = sizeof hit;
    const kvc_seq made = kvc_prefix_lookup(cache_, tokens.data(), static_cast<int64_t>(tokens.size()), salt.data(),
                                           static_cast<int64_t>(salt.size()), &o, &hit, &error_);
    outcome.status = made ? int32_t{KVC_OK} : error_.status;
    if (!made) return;
    sequences_[operation.name(0)] = made;
    data_[operation.name(0)] = operation.seed("data");
    first_positions_[operation.name(0)] = o.first_position;
    outcome.set_numbers({hit.tokens, hit.shared});
}

void Replay::unpublish(const Operation& operation, Outcome& outcome) {
    const std::vector<int64_t> tokens = prompt_tokens(operation);
    const std::string salt = operation.word("salt", "");
    int64_t removed = 0;
    outcome.status = kvc_prefix_remove(cache_, tokens.data(), static_cast<int64_t>(tokens.size()), salt.data(),
                                       static_cast<int64_t>(salt.size()), &removed, &error_);
    outcome.set_numbers({removed});
}

void Replay::prefix_clear(const Operation&, Outcome& outcome) { outcome.status = kvc_prefix_clear(cache_, &error_); }

void Replay::prefix_budget(const Operation& operation, Outcome& outcome) {
    outcome.status = kvc_prefix_budget_set(cache_, operation.number("bytes"), &error_);
}

void Replay::prefix_stats(const Operation&, Outcome& outcome) {
    kvc_prefix_stats s{};
    s.struct_size = sizeof s;
    outcome.status = kvc_prefix_stats_get(cache_, &s, &error_);
    outcome.set_numbers({s.entries, s.tokens, s.record_bytes, s.budget_bytes, s.hits, s.misses, s.hit_tokens, s.evictions});
}

}  // namespace kvc_scripts

// The replayer's merges and step-downs.
#include <tuple>

#include "tests/model/replay.h"

namespace kvc_scripts {

void Replay::merge(const Operation& operation, Outcome& outcome) {
    const std::string& name = operation.name(0);
    int64_t length = 0;
    kvc_seq_length(cache_, handle_of(name), &length, nullptr);
    const std::vector<int32_t> clusters = merge_clusters(operation, shapes_, data_of(name), length - first_position(name));
    kvc_merge_options o;
    kvc_merge_options_init(&o, sizeof o);
    std::tie(o.layer_begin, o.layer_end) = operation.range("layers");
    std::tie(o.head_begin, o.head_end) = operation.range("heads");
    o.values_only = static_cast<int32_t>(operation.number("values_only"));
    o.unbiased = static_cast<int32_t>(operation.number("unbiased"));
    kvc_evict_report r{};
    r.struct_size = sizeof r;
    outcome.status = kvc_merge(cache_, handle_of(name), clusters.data(), static_cast<int64_t>(clusters.size()), &o, &r, &error_);
    outcome.set_numbers({r.tokens_evicted, r.records_freed, r.bytes_freed, r.tokens_repacked, r.tokens_merged});
}

void Replay::step_down(const Operation& operation, Outcome& outcome) {
    kvc_step_down_options o;
    kvc_step_down_options_init(&o, sizeof o);
    o.rung = static_cast<int32_t>(operation.number("rung"));
    std::tie(o.layer_begin, o.layer_end) = operation.range("layers");
    o.budget_bytes = operation.number("budget_bytes"), o.recent = operation.number("recent");
    kvc_step_down_report r{};
    r.struct_size = sizeof r;
    outcome.status = kvc_step_down(cache_, handle_of(operation.name(0)), &o, &r, &error_);
    outcome.set_numbers({r.pages, r.tokens_requantized, r.bytes_freed, r.record_bytes});
}

}  // namespace kvc_scripts

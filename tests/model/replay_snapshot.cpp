// The replayer's snapshots.
#include "tests/model/replay.h"

namespace kvc_scripts {

void Replay::export_snapshot(const Operation& operation, Outcome& outcome) {
    std::vector<kvc_seq> handles;
    for (size_t i = 1; i < operation.names.size(); ++i)
        handles.push_back(handle_of(operation.names[i]));
    const auto n = static_cast<int64_t>(handles.size());
    const kvc_seq* const seqs = n > 0 ? handles.data() : nullptr;
    int64_t written = 0;
    outcome.status = kvc_snapshot_export(cache_, seqs, n, nullptr, 0, &written, &error_);
    if (outcome.status != KVC_OK) return;
    std::vector<uint8_t> bytes(static_cast<size_t>(written));
    outcome.status = kvc_snapshot_export(cache_, seqs, n, bytes.data(), written, &written, &error_);
    if (outcome.status != KVC_OK) return;
    outcome.set_numbers({written});
    outcome.add_bytes(bytes.data(), bytes.size());
    snapshots_[operation.name(0)] = std::move(bytes);
}

void Replay::import_snapshot(const Operation& operation, Outcome& outcome) {
    std::vector<uint8_t> bytes = snapshots_[operation.name(0)];
    if (operation.has("flip") && !bytes.empty()) bytes[operation.seed("flip") % bytes.size()] ^= 1;
    std::vector<kvc_seq> made(operation.names.empty() ? 0 : operation.names.size() - 1);
    int64_t n = 0;
    outcome.status = kvc_snapshot_import(cache_, bytes.data(), static_cast<int64_t>(bytes.size()), made.data(),
                                         static_cast<int64_t>(made.size()), &n, &error_);
    outcome.set_numbers({n});
    if (outcome.status != KVC_OK) return;
    for (size_t i = 0; i < made.size(); ++i) {
        if (made[i] == 0) continue;
        const std::string& name = operation.names[i + 1];
        sequences_[name] = made[i];
        data_[name] = operation.seed("data");
        first_positions_[name] = operation.number("first_position");
    }
}

}  // namespace kvc_scripts

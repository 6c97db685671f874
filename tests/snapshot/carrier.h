// Carries sequences from one session's cache to another's.
#pragma once

#include <kvc.h>
#include <string>
#include <vector>

#include "tests/laws/session.h"

namespace kvc_snapshots {

using kvc_laws::Bytes;
using kvc_laws::Session;
using Names = std::vector<std::string>;

inline std::vector<kvc_seq> handles(const Session& session, const Names& names) {
    std::vector<kvc_seq> out;
    for (const std::string& name : names)
        out.push_back(session.replay.handle_of(name));
    return out;
}

inline Bytes exported(const Session& session, const Names& names) {
    const std::vector<kvc_seq> seqs = handles(session, names);
    const auto n = static_cast<int64_t>(seqs.size());
    kvc_error error = {sizeof error, 0, ""};
    int64_t bytes = 0, written = 0;
    REQUIRE_MESSAGE(kvc_snapshot_export(session.replay.cache(), seqs.data(), n, nullptr, 0, &bytes, &error) == KVC_OK, error.message);
    Bytes out(static_cast<size_t>(bytes));
    REQUIRE(kvc_snapshot_export(session.replay.cache(), seqs.data(), n, out.data(), bytes, &written, &error) == KVC_OK);
    REQUIRE(written == bytes);
    return out;
}

struct Imported {
    kvc_status status;
    std::string message;
    std::vector<kvc_seq> seqs;
};

inline Imported import(const Session& to, const Bytes& snapshot, int64_t capacity = 16) {
    Imported out = {KVC_OK, "", std::vector<kvc_seq>(static_cast<size_t>(capacity))};
    kvc_error error = {sizeof error, 0, ""};
    int64_t n = 0;
    out.status = kvc_snapshot_import(to.replay.cache(), snapshot.data(), static_cast<int64_t>(snapshot.size()), out.seqs.data(),
                                     capacity, &n, &error);
    out.message = error.message;
    out.seqs.resize(static_cast<size_t>(n));
    return out;
}

// Exports from one session, imports into the other, under the same names.
inline Bytes carry(const Session& from, Session& to, const Names& names) {
    const Bytes snapshot = exported(from, names);
    const Imported imported = import(to, snapshot);
    REQUIRE_MESSAGE(imported.status == KVC_OK, imported.message);
    REQUIRE(imported.seqs.size() == names.size());
    for (size_t i = 0; i < names.size(); ++i)
        to.replay.adopt(names[i], imported.seqs[i], from.replay, names[i]);
    return snapshot;
}

// Bytes of records by kind, of all sequences: sinks, window, codes, sides.
inline std::vector<int64_t> kinds(Session& session) {
    const std::vector<int64_t> stats = session.stats();
    return {stats[2], stats[3], stats[4], stats[5], stats[7]};
}

}  // namespace kvc_snapshots

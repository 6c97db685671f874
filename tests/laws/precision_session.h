// What the laws of stepped-down precision share.
#pragma once

#include <kvc.h>
#include <string>
#include <vector>

#include "tests/laws/merge_session.h"

namespace kvc_laws {

struct SteppedDown {
    kvc_status status;
    kvc_step_down_report report;
    std::string message;
};

struct StepDownOptions {
    int32_t rung = 0;
    int64_t layer_begin = 0, layer_end = 0, budget_bytes = 0, recent = 0;
};

inline SteppedDown step_down(Session& session, const std::string& name, const StepDownOptions& asked = {}) {
    kvc_step_down_options options;
    REQUIRE(kvc_step_down_options_init(&options, sizeof options) == KVC_OK);
    options.rung = asked.rung, options.layer_begin = asked.layer_begin, options.layer_end = asked.layer_end;
    options.budget_bytes = asked.budget_bytes, options.recent = asked.recent;
    SteppedDown out{KVC_OK, {}, ""};
    out.report.struct_size = sizeof out.report;
    kvc_error error = {sizeof error, 0, ""};
    out.status = kvc_step_down(session.replay.cache(), session.replay.handle_of(name), &options, &out.report, &error);
    out.message = error.message;
    return out;
}

inline SteppedDown stepped(Session& session, const std::string& name, const StepDownOptions& asked = {}) {
    const SteppedDown out = step_down(session, name, asked);
    REQUIRE_MESSAGE(out.status == KVC_OK, out.message);
    return out;
}

// The rung of each live token.
inline std::vector<int64_t> rungs_of(Session& session, const std::string& name, int layer = 0, int head = 0) {
    std::vector<int64_t> rungs(positions_of(session, name, layer, head).size());
    REQUIRE(kvc_seq_read_rungs(session.replay.cache(), session.replay.handle_of(name), layer, head, rungs.data(),
                               static_cast<int64_t>(rungs.size()), nullptr, nullptr) == KVC_OK);
    return rungs;
}

inline int64_t record_bytes_of(Session& session, const std::string& name) { return session.ok("stats " + name).numbers[1]; }

// Records of all kinds are those of the arena, and those of the only sequence.
inline void check_bytes(Session& session, const std::string& only) {
    const std::vector<int64_t> s = session.stats();
    CHECK(s[3] + s[4] + s[5] + s[7] == s[2]);
    CHECK(s[2] == record_bytes_of(session, only));
}

}  // namespace kvc_laws

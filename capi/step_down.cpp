// Step-down of precision.
#include <algorithm>

#include "capi/handles.h"
#include "capi/structs.h"

using namespace kvc;

kvc_status kvc_step_down(kvc_cache* cache, kvc_seq seq, const kvc_step_down_options* options, kvc_step_down_report* out,
                         kvc_error* err) {
    return with_cache("step_down", cache, err, [&](Cache& c) -> Status {
        kvc_step_down_options given = {};
        KVC_TRY(read_struct("step_down_options", options, &given));
        if (out) KVC_TRY(check_out_struct("report", out));
        StepDownRequest request;
        request.rung = given.rung;
        request.layer_begin = given.layer_begin;
        request.layer_end = given.layer_end;
        request.budget_bytes = given.budget_bytes;
        request.recent = given.recent;
        const Result<StepDownReport> report = c.step_down(seq, request);
        if (!report.ok()) return report.status();
        if (out)
            write_struct(
                kvc_step_down_report{0, 0, report->pages, report->tokens_requantized, report->bytes_freed, report->record_bytes}, out);
        return {};
    });
}

// The border of the library: no exception crosses it, and every failure becomes a status and a message in the caller's record.
#pragma once
#include <cstring>
#include <new>
#include <system_error>

#include "kvc.h"

#include "capi/text.h"
#include "core/base/status.h"

namespace kvc {

inline kvc_status report(const Status& status, kvc_error* err) {
    if (err && err->struct_size >= sizeof(kvc_error) && !status.ok()) {
        err->status = int32_t(status.code);
        put_utf8(status.message, err->message, sizeof err->message);
    }
    return kvc_status(status.code);
}

inline void report_without_allocating(Code code, const char* text, kvc_error* err) noexcept {
    if (!err || err->struct_size < sizeof(kvc_error)) return;
    err->status = int32_t(code);
    std::strncpy(err->message, text, sizeof err->message - 1);
    err->message[sizeof err->message - 1] = 0;
}

// Runs body() -> Status.
template <class Body>
kvc_status guard(kvc_error* err, Body&& body) noexcept {
    try {
        return report(body(), err);
    } catch (const std::bad_alloc&) {
        report_without_allocating(Code::no_memory, "host memory is exhausted", err);
        return KVC_E_NO_MEMORY;
    } catch (const std::system_error&) {
        report_without_allocating(Code::no_memory, "the host refused a thread or a lock", err);
        return KVC_E_NO_MEMORY;
    } catch (...) {
        report_without_allocating(Code::internal, "an unexpected failure inside kvc", err);
        return KVC_E_INTERNAL;
    }
}

// Runs body() -> Result<T> and returns its value, or `none` after a failure.
template <class T, class Body>
T guard_value(kvc_error* err, T none, Body&& body) noexcept {
    T value = none;
    guard(err, [&]() -> Status {
        auto result = body();
        if (!result.ok()) return result.status();
        value = *result;
        return {};
    });
    return value;
}

}  // namespace kvc

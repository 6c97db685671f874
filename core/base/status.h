// What a call inside the library answers: ok, or a status with the sentence that reaches the caller.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>

namespace kvc {

// Same numbers as kvc_status in kvc.h; capi checks that at compile time.
enum class Code : int32_t {
    ok = 0,
    argument = 1,
    handle = 2,
    range = 3,
    order = 4,
    busy = 5,
    no_memory = 6,
    nonfinite = 7,
    unsupported = 8,
    forked = 9,
    internal = 10,
    corrupt = 11,
    io = 12,
    device = 13,
    capture = 14,
    again = 15,
};

struct [[nodiscard]] Status {
    Code code = Code::ok;
    std::string message;

    bool ok() const { return code == Code::ok; }
};

// Builds "what: which, limit" without iostreams; arguments are strings or numbers.
inline std::string text_of(const std::string& s) { return s; }
inline std::string text_of(const char* s) { return s; }
inline std::string text_of(int64_t n) { return std::to_string(n); }
inline std::string text_of(int n) { return std::to_string(n); }
inline std::string text_of(double x) {
    char text[32];  // %g shows 1e-300 as such, where std::to_string says 0.000000
    std::snprintf(text, sizeof text, "%g", x);
    return text;
}

template <class... Parts>
Status fail(Code code, const Parts&... parts) {
    return {code, (text_of(parts) + ...)};
}

// A value, or why there is none.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::move(value)) {}
    Result(Status status) : state_(std::move(status)) {}

    bool ok() const { return state_.index() == 0; }
    T& operator*() { return std::get<0>(state_); }
    const T& operator*() const { return std::get<0>(state_); }
    T* operator->() { return &std::get<0>(state_); }
    const T* operator->() const { return &std::get<0>(state_); }
    const Status& status() const { return std::get<1>(state_); }

private:
    std::variant<T, Status> state_;
};

}  // namespace kvc

// Returns the status of a call that failed; continues after one that did not.
#define KVC_TRY(call)                                        \
    do {                                                     \
        if (::kvc::Status status_ = (call); !status_.ok()) { \
            return status_;                                  \
        }                                                    \
    } while (0)

// Calls of kvc.h: the GIL is released while one runs, and a failure becomes an exception that knows status, operation and message.
#pragma once

#include <kvc.h>
#include <nanobind/nanobind.h>
#include <string>
#include <string_view>
#include <utility>

namespace nb = nanobind;

namespace kvc_python {

// Becomes the exception of its status (kvc/errors.py) where it leaves a function of the module.
struct Failure {
    int32_t status;
    std::string operation, message;
};

[[noreturn]] inline void refuse(const char* operation, std::string message) {
    throw Failure{KVC_E_ARGUMENT, operation, operation + (": " + std::move(message))};
}

// What Python itself said of a type is said better here; what else its code raised goes on.
[[noreturn]] inline void refuse_type(std::string_view name, std::string_view wanted, nb::handle got) {
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
    PyErr_Clear();
    throw nb::type_error(
        (std::string(name) + " must be " + std::string(wanted) + ", not " + nb::type_name(got.type()).c_str()).c_str());
}

// Not cleared: the library writes the message of a failure, and nobody reads another one.
inline kvc_error empty_error() {
    kvc_error error;
    error.struct_size = sizeof error;
    error.status = KVC_OK;
    error.message[0] = '\0';
    return error;
}

// A function that returns kvc_status. Nothing here may touch Python while the GIL is away.
template <class Function, class... Arguments>
void call(const char* operation, Function function, Arguments... arguments) {
    kvc_error error = empty_error();
    kvc_status status;
    {
        nb::gil_scoped_release others_may_run;
        status = function(arguments..., &error);
    }
    if (status != KVC_OK) throw Failure{status, operation, error.message};
}

// A function that returns what it made, NULL or 0 on failure.
template <class Function, class... Arguments>
auto make(const char* operation, Function function, Arguments... arguments) {
    kvc_error error = empty_error();
    decltype(function(arguments..., &error)) made;
    {
        nb::gil_scoped_release others_may_run;
        made = function(arguments..., &error);
    }
    if (!made) throw Failure{error.status, operation, error.message};
    return made;
}

// Handles are numbers in Python: a stale or foreign one is KVC_E_HANDLE, never a fault.
inline kvc_cache* cache_of(uint64_t handle) { return reinterpret_cast<kvc_cache*>(handle); }

// Steps that were dropped while their stream was captured, when the library refuses to end them: what needs their sequences tries again.
void end_dropped_steps(uint64_t cache);
void forget_dropped_steps(uint64_t cache);

void define_library(nb::module_& m);
void define_cache(nb::module_& m);
void define_sequences(nb::module_& m);
void define_step(nb::module_& m);

}  // namespace kvc_python

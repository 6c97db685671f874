// Arguments that say their own names where their types are wrong: nanobind's refusal prints signatures of the compiled part, which nobody
// who uses the package has called.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "failure.h"

namespace kvc_python {

template <size_t n>
struct Name {
    consteval Name(const char (&from)[n]) { std::copy_n(from, n, text); }
    char text[n];
};

[[noreturn]] inline void refuse_type(std::string_view name, std::string_view wanted, nb::handle got) {
    PyErr_Clear();
    throw nb::type_error(
        (std::string(name) + " must be " + std::string(wanted) + ", not " + nb::type_name(got.type()).c_str()).c_str());
}

// Any integer of Python or NumPy, or an object that stands for one, such as a sequence.
template <class T>
T whole_of(nb::handle from, std::string_view name, std::string_view wanted) {
    int64_t value = 0;
    if (!nb::detail::load_i64(from.ptr(), uint8_t(nb::detail::cast_flags::convert), &value)) {
        if (!PyIndex_Check(from.ptr())) refuse_type(name, wanted, from);
        throw Failure{KVC_E_ARGUMENT, "", std::string(name) + " is beyond 64 bits"};
    }
    if (value != int64_t(T(value)))
        throw Failure{KVC_E_ARGUMENT, "", std::string(name) + " " + std::to_string(value) + " is beyond 32 bits"};
    return T(value);
}

template <Name name, class T = int64_t>
struct Whole {
    T value;
    operator T() const { return value; }
};

// A list of them; None, where the argument may be that, is one that was not given.
template <Name name>
struct Listed {
    std::vector<int64_t> values;
    bool given = false;

    const int64_t* data() const { return given ? values.data() : nullptr; }
    int64_t size() const { return int64_t(values.size()); }
};

// UTF-8 of a str; that and a salt live as long as the call.
template <Name name>
struct Word {
    const char* text;
    operator const char*() const { return text; }
};
struct Salt {
    const char* data;
    int64_t size;
};

}  // namespace kvc_python

namespace nanobind::detail {

// As in nanobind's own casters, but that what is wrong is thrown instead of answered.
template <kvc_python::Name name, class T>
struct type_caster<kvc_python::Whole<name, T>> {
    using Type = kvc_python::Whole<name, T>;
    NB_TYPE_CASTER(Type, const_name("int"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        const bool of_sequence = std::string_view(name.text) == "sequence";
        value = {kvc_python::whole_of<T>(from, name.text, of_sequence ? "a kvc.Sequence or its number" : "an integer")};
        return true;
    }
};

template <kvc_python::Name name>
struct type_caster<kvc_python::Listed<name>> {
    using Type = kvc_python::Listed<name>;
    NB_TYPE_CASTER(Type, const_name("collections.abc.Sequence[int]"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        if (from.is_none()) return true;
        const object items = steal(PySequence_Fast(from.ptr(), ""));
        if (!items.is_valid()) kvc_python::refuse_type(name.text, "a list", from);
        const Py_ssize_t n = PySequence_Fast_GET_SIZE(items.ptr());
        value.given = true;
        value.values.resize(size_t(n));
        for (Py_ssize_t i = 0; i < n; ++i) {
            // A list is the caller's own, and a number's __index__ runs Python, where anybody may change the list.
            if (PySequence_Fast_GET_SIZE(items.ptr()) != n)
                throw kvc_python::Failure{KVC_E_ARGUMENT, "", std::string(name.text) + " changed while it was read"};
            const object item = borrow(PySequence_Fast_GET_ITEM(items.ptr(), i));
            value.values[size_t(i)] = kvc_python::whole_of<int64_t>(item, name.text, "a list of integers");
        }
        return true;
    }
};

template <kvc_python::Name name>
struct type_caster<kvc_python::Word<name>> {
    using Type = kvc_python::Word<name>;
    NB_TYPE_CASTER(Type, const_name("str"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        Py_ssize_t length = 0;
        value.text = PyUnicode_Check(from.ptr()) ? PyUnicode_AsUTF8AndSize(from.ptr(), &length) : nullptr;
        if (!value.text) kvc_python::refuse_type(name.text, "a str (UTF-8)", from);
        if (size_t(length) != std::char_traits<char>::length(value.text))
            throw kvc_python::Failure{KVC_E_ARGUMENT, "", std::string(name.text) + " has a NUL in it"};
        return true;
    }
};

template <>
struct type_caster<kvc_python::Salt> {
    NB_TYPE_CASTER(kvc_python::Salt, const_name("bytes"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        if (!PyBytes_Check(from.ptr())) kvc_python::refuse_type("salt", "bytes", from);
        value = {PyBytes_AS_STRING(from.ptr()), int64_t(PyBytes_GET_SIZE(from.ptr()))};
        return true;
    }
};

}  // namespace nanobind::detail

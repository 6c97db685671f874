// Arguments that say their own names where their types are wrong, and the function of kvc.h that they were for: nanobind's refusal prints
// signatures of the compiled part, which nobody who uses the package has called.
#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <vector>

#include "failure.h"

namespace kvc_python {

template <size_t n>
struct Name {
    consteval Name(const char (&from)[n]) { std::copy_n(from, n, text); }
    char text[n];
};

// An argument of any type: nanobind would refuse None before its caster could say what it is.
inline nb::arg any(const char* name) { return nb::arg(name).none(); }

// An object that stands for a number of the library's, such as a sequence: it is asked without a call into Python.
struct Number {
    PyObject_HEAD long long value;
};
PyObject* index_of_number(PyObject* number);
inline bool is_number(nb::handle from) {
    const PyNumberMethods* as_number = Py_TYPE(from.ptr())->tp_as_number;
    return as_number && as_number->nb_index == index_of_number;
}

// What is no exact int: of NumPy, or an object that stands for one. Out of the way of those that are, which hot loops bring.
template <class T>
[[gnu::noinline]] T whole_of_object(const char* operation, nb::handle from, std::string_view name, std::string_view wanted) {
    if (std::is_signed_v<T> && is_number(from)) return T(reinterpret_cast<const Number*>(from.ptr())->value);
    PyObject* const number = PyNumber_Index(from.ptr());
    if (!number) refuse_type(name, wanted, from);
    T value = 0;
    bool fits;
    if constexpr (std::is_unsigned_v<T>)
        fits = nb::detail::load_u64(number, 0, &value);
    else
        fits = nb::detail::load_i64(number, 0, &value);
    Py_DECREF(number);
    if (!fits) refuse(operation, std::string(name) + (std::is_unsigned_v<T> ? " is below 0 or beyond 64 bits" : " is beyond 64 bits"));
    return value;
}

// Any integer of Python or NumPy.
template <class T>
T whole_of(const char* operation, nb::handle from, std::string_view name, std::string_view wanted) {
    if constexpr (std::is_unsigned_v<T>) return whole_of_object<uint64_t>(operation, from, name, wanted);
    int64_t value = 0;
    if (!PyLong_CheckExact(from.ptr()) || !nb::detail::load_i64(from.ptr(), 0, &value))
        value = whole_of_object<int64_t>(operation, from, name, wanted);
    if (value != int64_t(T(value))) refuse(operation, std::string(name) + " " + std::to_string(value) + " is beyond 32 bits");
    return T(value);
}

template <Name operation, Name name, class T = int64_t>
struct Whole {
    T value;
    operator T() const { return value; }
};

// A list of them. Where it may be None, that is one that was not given.
template <Name operation, Name name, bool may_be_none = false>
struct Listed {
    std::vector<int64_t> values;
    bool given = false;
    static constexpr int64_t nothing = 0;

    // NULL only if it was not given: to the library that is another thing than an empty list, whose vector may have no memory.
    const int64_t* data() const { return !given ? nullptr : values.empty() ? &nothing : values.data(); }
    int64_t size() const { return int64_t(values.size()); }
};

// UTF-8 of a str; that and a salt live as long as the call.
template <Name operation, Name name>
struct Word {
    const char* text;
    operator const char*() const { return text; }
};
struct Salt {
    const char* data;
    int64_t size;
};

// A str, bytes or os.PathLike, as the system wants it.
template <Name operation, Name name>
struct Path {
    nb::object bytes;
    const char* text() const { return PyBytes_AS_STRING(bytes.ptr()); }
};

}  // namespace kvc_python

namespace nanobind::detail {

// As in nanobind's own casters, but that what is wrong is thrown instead of answered.
template <kvc_python::Name operation, kvc_python::Name name, class T>
struct type_caster<kvc_python::Whole<operation, name, T>> {
    using Type = kvc_python::Whole<operation, name, T>;
    NB_TYPE_CASTER(Type, const_name("int"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        const bool of_sequence = std::string_view(name.text) == "sequence";
        value = {kvc_python::whole_of<T>(operation.text, from, name.text, of_sequence ? "a kvc.Sequence or its number" : "an integer")};
        return true;
    }
};

template <kvc_python::Name operation, kvc_python::Name name, bool may_be_none>
struct type_caster<kvc_python::Listed<operation, name, may_be_none>> {
    using Type = kvc_python::Listed<operation, name, may_be_none>;
    NB_TYPE_CASTER(Type, const_name("collections.abc.Iterable[typing.SupportsIndex]") + const_name<may_be_none>(" | None", ""))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        if (may_be_none && from.is_none()) return true;
        const object items = steal(PySequence_Fast(from.ptr(), ""));
        if (!items.is_valid()) kvc_python::refuse_type(name.text, "a list", from);
        const Py_ssize_t n = PySequence_Fast_GET_SIZE(items.ptr());
        value.given = true;
        value.values.resize(size_t(n));
        for (Py_ssize_t i = 0; i < n; ++i) {
            // A list is the caller's own, and a number's __index__ runs Python, where anybody may change the list.
            if (PySequence_Fast_GET_SIZE(items.ptr()) != n)
                kvc_python::refuse(operation.text, std::string(name.text) + " changed while it was read");
            const object item = borrow(PySequence_Fast_GET_ITEM(items.ptr(), i));
            value.values[size_t(i)] = kvc_python::whole_of<int64_t>(operation.text, item, name.text, "a list of integers");
        }
        return true;
    }
};

template <kvc_python::Name operation, kvc_python::Name name>
struct type_caster<kvc_python::Word<operation, name>> {
    using Type = kvc_python::Word<operation, name>;
    NB_TYPE_CASTER(Type, const_name("str"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        if (!PyUnicode_Check(from.ptr())) kvc_python::refuse_type(name.text, "a str", from);
        Py_ssize_t length = 0;
        value.text = PyUnicode_AsUTF8AndSize(from.ptr(), &length);
        if (!value.text) {
            PyErr_Clear();
            kvc_python::refuse(operation.text, std::string(name.text) + " is not Unicode: it has half a surrogate pair");
        }
        if (size_t(length) != std::char_traits<char>::length(value.text))
            kvc_python::refuse(operation.text, std::string(name.text) + " has a NUL in it");
        return true;
    }
};

template <kvc_python::Name operation, kvc_python::Name name>
struct type_caster<kvc_python::Path<operation, name>> {
    using Type = kvc_python::Path<operation, name>;
    NB_TYPE_CASTER(Type, const_name("str | os.PathLike"))
    bool from_python(handle from, uint8_t, cleanup_list*) {
        PyObject* bytes = nullptr;
        if (PyUnicode_FSConverter(from.ptr(), &bytes)) {
            value.bytes = steal(bytes);
            return true;
        }
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) kvc_python::refuse_type(name.text, "a str, bytes or os.PathLike", from);
        PyErr_Clear();
        kvc_python::refuse(operation.text, std::string(name.text) + " is no path: it has a NUL or half a surrogate pair in it");
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

#include "structs.h"

#include <cstddef>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

namespace kvc_python {
namespace {

template <class T>
constexpr Kind kind_of() {
    if constexpr (std::is_array_v<T>)
        return Kind::text;
    else if constexpr (std::is_pointer_v<T>)
        return Kind::address;
    else if constexpr (std::is_same_v<T, double>)
        return Kind::real64;
    else if constexpr (std::is_same_v<T, float>)
        return Kind::real32;
    else
        return sizeof(T) == 4 ? Kind::whole32 : Kind::whole64;
}

constexpr const char* kind_names[] = {"int", "int", "float", "float", "str", "address"};

#define KVC_STRUCT(type)
#define KVC_FIELD(type, name) \
    {#type, #name, int64_t(offsetof(type, name)), int64_t(sizeof(type::name)), kind_of<decltype(type::name)>()},
#define KVC_ENUM(type, name)
constexpr Field fields[] = {
#include "../../generated/layout.h"
};
#undef KVC_FIELD
#undef KVC_ENUM

struct Enumerator {
    const char* owner;
    const char* name;
    int64_t value;
};
#define KVC_FIELD(type, name)
#define KVC_ENUM(type, name) {#type, #name, int64_t(name)},
constexpr Enumerator enumerators[] = {
#include "../../generated/layout.h"
};
#undef KVC_STRUCT
#undef KVC_FIELD
#undef KVC_ENUM

// What the binding fills in itself, or what means nothing yet.
bool is_hidden(std::string_view name) { return name == "struct_size" || name == "reserved"; }

const Field* find(const char* owner, std::string_view name) {
    for (const Field& field : fields)
        if (name == field.name && !is_hidden(name) && std::string_view(owner) == field.owner) return &field;
    return nullptr;
}

template <class T>
void store(char* to, T value) {
    std::memcpy(to, &value, sizeof value);
}

template <class T>
T load(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// What is wrong with the value, for the message; what its own code raised besides goes on.
[[noreturn]] void refuse_field(const char* operation, const Field& field, nb::handle value, const std::string& wanted) {
    const auto is = [](PyObject* kind) { return bool(PyErr_ExceptionMatches(kind)); };
    if (PyErr_Occurred() && !is(PyExc_TypeError) && !is(PyExc_OverflowError) && !is(PyExc_UnicodeError)) throw nb::python_error();
    PyErr_Clear();
    refuse(operation, std::string(field.name) + " is " + nb::repr(value).c_str() + "; it must be " + wanted);
}

// Any integer of Python or NumPy, but no text and no fraction.
int64_t whole(const char* operation, const Field& field, nb::handle value) {
    const nb::object number = nb::steal(PyNumber_Index(value.ptr()));
    if (!number.is_valid()) refuse_field(operation, field, value, "an integer or one of kvc's enums, as kvc.Device.CUDA");
    const int64_t result = PyLong_AsLongLong(number.ptr());
    if (result == -1 && PyErr_Occurred()) refuse_field(operation, field, value, "below 2^63");
    return result;
}

double real(const char* operation, const Field& field, nb::handle value) {
    const double result = PyFloat_AsDouble(value.ptr());
    if (result == -1 && PyErr_Occurred()) refuse_field(operation, field, value, "a number");
    return result;
}

// Text that would be cut is refused: a cut codec string can be another codec.
void set_text(const char* operation, const Field& field, nb::handle value, char* to) {
    Py_ssize_t length = 0;
    const char* text = PyUnicode_Check(value.ptr()) ? PyUnicode_AsUTF8AndSize(value.ptr(), &length) : nullptr;
    if (!text) refuse_field(operation, field, value, "a str");
    if (length >= field.bytes || std::memchr(text, 0, size_t(length)))
        refuse_field(operation, field, value, "at most " + std::to_string(field.bytes - 1) + " bytes without NUL");
    std::memcpy(to, text, size_t(length) + 1);
}

void set_field(const char* operation, const Field& field, nb::handle value, char* to) {
    switch (field.kind) {
    case Kind::whole64:
        return store(to, whole(operation, field, value));
    case Kind::real32:
        return store(to, float(real(operation, field, value)));
    case Kind::real64:
        return store(to, real(operation, field, value));
    case Kind::text:
        return set_text(operation, field, value, to);
    case Kind::address:
        return store(to, value.is_none() ? int64_t{0} : whole(operation, field, value));
    case Kind::whole32:
        break;
    }
    const int64_t number = whole(operation, field, value);
    if (number != int32_t(number)) refuse_field(operation, field, value, "a number of 32 bits");
    store(to, int32_t(number));
}

nb::object value_of(const Field& field, const char* from) {
    switch (field.kind) {
    case Kind::whole32:
        return nb::int_(load<int32_t>(from));
    case Kind::real32:
        return nb::float_(load<float>(from));
    case Kind::real64:
        return nb::float_(load<double>(from));
    case Kind::text:
        return nb::str(from);
    default:
        return nb::int_(load<int64_t>(from));
    }
}

}  // namespace

void set_fields(const char* operation, const char* owner, void* to, nb::dict values) {
    for (const auto& [its_key, its_value] : values) {
        // The dict may be the caller's own, and a number's __index__ runs Python, which may take these out of it.
        const nb::object key = nb::borrow(its_key), value = nb::borrow(its_value);
        const std::string name = nb::str(key).c_str();
        const Field* field = find(owner, name);
        if (!field) refuse(operation, std::string(owner) + " has no field " + name);
        set_field(operation, *field, value, static_cast<char*>(to) + field->offset);
    }
}

nb::dict fields_of(const char* owner, const void* from) {
    nb::dict out;
    for (const Field& field : fields)
        if (std::string_view(owner) == field.owner && !is_hidden(field.name))
            out[field.name] = value_of(field, static_cast<const char*>(from) + field.offset);
    return out;
}

nb::dict all_structs() {
    nb::dict out;
    for (const Field& field : fields) {
        if (is_hidden(field.name)) continue;
        if (!out.contains(field.owner)) out[field.owner] = nb::dict();
        nb::cast<nb::dict>(out[field.owner])[field.name] = kind_names[int(field.kind)];
    }
    return out;
}

nb::dict all_enums() {
    nb::dict out;
    for (const Enumerator& enumerator : enumerators) {
        if (!out.contains(enumerator.owner)) out[enumerator.owner] = nb::dict();
        nb::cast<nb::dict>(out[enumerator.owner])[enumerator.name] = enumerator.value;
    }
    return out;
}

}  // namespace kvc_python

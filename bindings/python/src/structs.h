// The structs of kvc.h from and to Python dicts, by the names of their fields. The names come from the generated layout.h; the
// compiler adds places and types.
#pragma once

#include "failure.h"

namespace kvc_python {

enum class Kind { whole32, whole64, real32, real64, text, address };

struct Field {
    const char* owner;
    const char* name;
    int64_t offset, bytes;
    Kind kind;
};

template <class Struct>
inline constexpr const char* name_of = nullptr;
#define KVC_STRUCT(type) \
    template <>          \
    inline constexpr const char* name_of<type> = #type;
#define KVC_FIELD(type, name)
#define KVC_ENUM(type, name)
#include "../../generated/layout.h"
#undef KVC_STRUCT
#undef KVC_FIELD
#undef KVC_ENUM

// Sets the fields that the dict names; an unknown name, a wrong type and a number that does not fit are refused.
void set_fields(const char* operation, const char* owner, void* to, nb::dict values);
nb::dict fields_of(const char* owner, const void* from);
// {struct: {field: kind}} and {enum: {name: value}}.
nb::dict all_structs();
nb::dict all_enums();

// The fields of a struct, which an argument of that name gives.
inline nb::dict dict_of(std::string_view name, nb::handle values) {
    if (!PyDict_Check(values.ptr())) refuse_type(name, "a dict of fields", values);
    return nb::borrow<nb::dict>(values);
}

// A struct with the library's defaults and the given fields.
template <class Struct>
Struct options(const char* operation, kvc_status (*init)(Struct*, int64_t), nb::dict values) {
    Struct made;
    if (const kvc_status status = init(&made, sizeof made)) throw Failure{status, operation, name_of<Struct>};
    set_fields(operation, name_of<Struct>, &made, values);
    return made;
}

// A struct for the library to fill in.
template <class Struct>
Struct blank() {
    Struct made{};
    made.struct_size = sizeof made;
    return made;
}

template <class Struct>
nb::dict as_dict(const Struct& from) {
    return fields_of(name_of<Struct>, &from);
}

}  // namespace kvc_python

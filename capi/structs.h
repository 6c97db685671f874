// Public structs: copied by the smaller of both sizes, so that old callers and new libraries understand each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/base/status.h"

namespace kvc {

constexpr size_t struct_size_limit = 65536;

inline Status check_struct_size(const std::string& name, size_t size) {
    if (size >= sizeof(uint32_t) && size <= struct_size_limit) return {};
    return fail(Code::argument, name, ": struct_size ", int64_t(size), " is out of range (", int64_t(sizeof(uint32_t)), " .. ",
                int64_t(struct_size_limit), "); it must be set");
}

// Copies a caller's struct: what it does not have stays default, and what this library does not know must be zero.
template <class T>
Status read_struct(const std::string& name, const T* in, T* out) {
    if (!in) return {};
    const auto* bytes = reinterpret_cast<const unsigned char*>(in);
    uint32_t size = 0;
    std::memcpy(&size, bytes, sizeof size);  // elements of an array of odd structs need not be aligned
    KVC_TRY(check_struct_size(name, size));
    for (size_t i = sizeof(T); i < size; i++) {
        if (bytes[i] != 0)
            return fail(Code::argument, name, ": byte ", int64_t(i), " belongs to a field that this library does not know");
    }
    std::memcpy(out, bytes, size < sizeof(T) ? size : sizeof(T));
    out->struct_size = uint32_t(sizeof(T));
    return {};
}

// Checks an output struct before anything is done.
template <class T>
Status check_out_struct(const char* name, const T* out) {
    if (!out) return fail(Code::argument, name, " is NULL");
    return check_struct_size(name, out->struct_size);
}

// Writes as much of `in` as the caller's struct holds; its struct_size stays.
template <class T>
void write_struct(const T& in, T* out) {
    const uint32_t size = out->struct_size;
    std::memcpy(out, &in, size < sizeof(T) ? size : sizeof(T));
    out->struct_size = size;
}

template <class T>
bool init_struct(T* out, int64_t struct_size) {
    if (!out || struct_size < int64_t(sizeof(uint32_t)) || struct_size > int64_t(struct_size_limit)) return false;
    std::memset(static_cast<void*>(out), 0, size_t(struct_size));
    out->struct_size = uint32_t(struct_size);
    return true;
}

}  // namespace kvc

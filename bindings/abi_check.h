/* Does the libkvc that was loaded have the ABI of the kvc.h that this file was compiled against?
 *
 * A library of the same ABI version may have grown: fields at the end of a struct, new enumerators. It must still have every
 * struct, field and enumerator known here, at the same place, of the same type and with the same value. */
#ifndef KVC_BINDINGS_ABI_CHECK_H
#define KVC_BINDINGS_ABI_CHECK_H
#include <kvc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct kvc_layout_row {
    const char* group; /* "struct kvc_error", or "enum kvc_status" */
    const char* entry; /* "field status", an enumerator, or NULL for the struct itself */
    int64_t first;     /* offset of a field, value of an enumerator, size of a struct */
    int64_t bytes;     /* of a field; 0 otherwise */
    const char* type;  /* of a field, as kvc_abi_describe names it; "" otherwise */
} kvc_layout_row;

/* The types that fields have; one of another does not compile. */
#ifdef __cplusplus
extern "C++" {
constexpr const char* kvc_type_name(uint32_t*) { return "u32"; }
constexpr const char* kvc_type_name(int32_t*) { return "i32"; }
constexpr const char* kvc_type_name(int64_t*) { return "i64"; }
constexpr const char* kvc_type_name(float*) { return "f32"; }
constexpr const char* kvc_type_name(double*) { return "f64"; }
template <size_t n>
constexpr const char* kvc_type_name(char (*)[n]) {
    return "char";
}
template <class T>
constexpr const char* kvc_type_name(T**) {
    return "ptr";
}
template <class R, class... A>
constexpr const char* kvc_type_name(R (**)(A...)) {
    return "fn";
}
}
#define KVC_TYPE(type, name) kvc_type_name(static_cast<decltype(type::name)*>(nullptr))
#else
/* clang-format off */
#define KVC_TYPE(type, name) _Generic(((type*)0)->name, uint32_t: "u32", int32_t: "i32", int64_t: "i64", float: "f32", double: "f64", \
    char*: "char", void*: "ptr", kvc_graph*: "ptr", void* (*)(void*, int64_t, int64_t): "fn", void (*)(void*, void*, int64_t): "fn")
/* clang-format on */
#endif

#define KVC_STRUCT(type) {"struct " #type, NULL, (int64_t)sizeof(type), 0, ""},
#define KVC_FIELD(type, name) \
    {"struct " #type, "field " #name, (int64_t)offsetof(type, name), (int64_t)sizeof(((type*)0)->name), KVC_TYPE(type, name)},
#define KVC_ENUM(type, name) {"enum " #type, #name, (int64_t)name, 0, ""},
static const kvc_layout_row kvc_layout_rows[] = {
#include "generated/layout.h"
};
#undef KVC_STRUCT
#undef KVC_FIELD
#undef KVC_ENUM

/* Is this row part of the description that kvc_abi_describe gave? */
static int kvc_layout_has(const char* description, const kvc_layout_row* row) {
    char want[192];
    const int is_enum = row->group[0] == 'e';
    if (is_enum) {
        snprintf(want, sizeof want, "%s %s %lld\n", row->group, row->entry, (long long)row->first);
        return strstr(description, want) != NULL;
    }
    snprintf(want, sizeof want, "%s ", row->group);
    const char* line = strstr(description, want);
    if (!line) return 0;
    if (!row->entry) return strtoll(line + strlen(want), NULL, 10) >= row->first;
    const char* end = strchr(line, '\n');
    snprintf(want, sizeof want, " %s %lld %lld %s", row->entry, (long long)row->first, (long long)row->bytes, row->type);
    const char* found = strstr(line, want);
    return found && (!end || found < end) && strchr(" \n", found[strlen(want)]);
}

/* NULL if the ABI is the one compiled against; otherwise a sentence that names the first difference, to be freed by the caller. */
static char* kvc_abi_mismatch(void) {
    const int64_t bytes = kvc_abi_describe(NULL, 0);
    char* description = (char*)malloc((size_t)bytes + 2);
    char* sentence = (char*)malloc(256);
    if (!description || !sentence) abort();
    kvc_abi_describe(description, bytes);
    strcat(description, "\n"); /* every line ends with one, the last one too */
    sentence[0] = '\0';
    if (kvc_abi_version() != KVC_ABI_VERSION)
        snprintf(sentence, 256, "libkvc %s has ABI %lld, this program needs ABI %d", kvc_version(), (long long)kvc_abi_version(),
                 KVC_ABI_VERSION);
    const size_t rows = sizeof kvc_layout_rows / sizeof kvc_layout_rows[0];
    for (size_t i = 0; i < rows && !sentence[0]; ++i) {
        const kvc_layout_row* row = &kvc_layout_rows[i];
        if (!kvc_layout_has(description, row))
            snprintf(sentence, 256,
                     row->type[0] ? "libkvc %s differs from kvc.h in %s %s (expected %lld %lld %s)"
                                  : "libkvc %s differs from kvc.h in %s %s (expected %lld)",
                     kvc_version(), row->group, row->entry ? row->entry : "size", (long long)row->first, (long long)row->bytes,
                     row->type);
    }
    free(description);
    if (sentence[0]) return sentence;
    free(sentence);
    return NULL;
}
#endif

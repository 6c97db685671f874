/* Loaded before libkvc, makes it look like a library of another ABI; bindings/test expects every language to refuse it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef OTHER_VERSION
int64_t kvc_abi_version(void) { return 1000; }
#endif

/* One thing in the description, which keeps its length. */
#if defined(OTHER_LAYOUT)
#define IS "field status 4 4 i32"
#define BECOMES "field status 8 4 i32"
#elif defined(OTHER_BYTES)
#define IS "field status 4 4 i32"
#define BECOMES "field status 4 8 i32"
#elif defined(OTHER_TYPE)
#define IS "field status 4 4 i32"
#define BECOMES "field status 4 4 f32"
#elif defined(OTHER_SIZE)
#define IS "struct kvc_error 248 "
#define BECOMES "struct kvc_error 240 "
#elif defined(OTHER_VALUE)
#define IS "enum kvc_status KVC_E_DEVICE 13\n"
#define BECOMES "enum kvc_status KVC_E_DEVICE 31\n"
#endif

#ifdef IS
int64_t kvc_abi_describe(char* out, int64_t out_bytes) {
    int64_t (*describe)(char*, int64_t) = (int64_t (*)(char*, int64_t))dlsym(RTLD_NEXT, "kvc_abi_describe");
    const int64_t needed = describe(out, out_bytes);
    if (!out || out_bytes < needed) return needed;
    char* found = strstr(out, IS);
    if (!found || sizeof IS != sizeof BECOMES) abort(); /* a fault that is none */
    memcpy(found, BECOMES, strlen(BECOMES));
    return needed;
}
#endif

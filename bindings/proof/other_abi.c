/* Loaded before libkvc, makes it look like a library of another ABI; bindings/test expects every language to refuse it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#ifdef OTHER_VERSION
int64_t kvc_abi_version(void) { return 1000; }
#endif

#ifdef OTHER_LAYOUT
int64_t kvc_abi_describe(char* out, int64_t out_bytes) {
    int64_t (*describe)(char*, int64_t) = (int64_t (*)(char*, int64_t))dlsym(RTLD_NEXT, "kvc_abi_describe");
    const int64_t needed = describe(out, out_bytes);
    char* field = out && out_bytes >= needed ? strstr(out, "field status 4 ") : NULL;
    if (field) field[strlen("field status ")] = '8';
    return needed;
}
#endif

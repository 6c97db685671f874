/* kvc.h included twice here and again in second.c, in one program, in every C and C++ standard: tests/capi/header/CMakeLists.txt. */
#include <stdio.h>
#include <string.h>

#include "kvc.h"

#ifdef __cplusplus
extern "C" {
#endif
int64_t struct_sizes_in_second_file(void);
#ifdef __cplusplus
}
#endif

static int64_t struct_sizes(void) {
    return (int64_t)(sizeof(kvc_error) + 1000 * sizeof(kvc_options) + 1000000 * sizeof(kvc_step_options));
}

int main(void) {
    char text[32] = "kvc";
    if (kvc_abi_version() != KVC_ABI_VERSION) {
        fprintf(stderr, "library has ABI %lld, header %d\n", (long long)kvc_abi_version(), KVC_ABI_VERSION);
        return 1;
    }
    if (struct_sizes() != struct_sizes_in_second_file()) {
        fprintf(stderr, "two files of one program disagree on the size of a struct\n");
        return 1;
    }
    if (strlen(kvc_version()) == 0 || strlen(kvc_version()) >= sizeof text) {
        fprintf(stderr, "kvc_version: \"%s\"\n", kvc_version());
        return 1;
    }
    return kvc_status_name(KVC_OK) == NULL;
}

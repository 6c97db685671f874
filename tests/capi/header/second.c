#include "kvc.h"

#ifdef __cplusplus
extern "C" {
#endif
int64_t struct_sizes_in_second_file(void);
#ifdef __cplusplus
}
#endif

int64_t struct_sizes_in_second_file(void) {
    return (int64_t)(sizeof(kvc_error) + 1000 * sizeof(kvc_options) + 1000000 * sizeof(kvc_step_options));
}

/* What the examples share: stop at the first failure, and data that looks a little like a model's. */
#ifndef KVC_EXAMPLE_H
#define KVC_EXAMPLE_H
#include <kvc.h>
#include <stdio.h>
#include <stdlib.h>

#define TRY(call)                                                     \
    do {                                                              \
        if (!(call)) {                                                \
            fprintf(stderr, "%s: %s\n", #call, err.message), exit(1); \
        }                                                             \
    } while (0)
#define OK(call) TRY((call) == KVC_OK)

static float* example_numbers(int64_t n, uint32_t seed) {
    float* out = malloc((size_t)n * sizeof *out);
    if (!out) exit(1);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (float)(int32_t)seed / 1e9f;
    }
    return out;
}

#endif

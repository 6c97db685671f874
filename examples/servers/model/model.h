/* What the library's parts know of each other: the mapped files, the worker threads, the matrix product. */
#ifndef SMOLLM_MODEL_H
#define SMOLLM_MODEL_H
#include <pthread.h>
#include <stddef.h>

#include "smollm.h"

enum { panel_outputs = 16, block_inputs = 32, four_bit_block = 384, eight_bit_block = 576 };

typedef struct mapping {
    const uint8_t* bytes;
    int64_t size;
} mapping;

/* A matrix [outputs, inputs] in panels, as convert.py lays it out. */
typedef struct matrix {
    const uint8_t* bytes;
    int64_t outputs, inputs, block_bytes; /* block_bytes says the width of the codes */
} matrix;

typedef struct layer_weights {
    const float *attention_norm, *feed_norm;
    matrix qkv, attention_output, gate, up, down;
} layer_weights;

/* Threads that share out the items 0 .. n - 1 of one job at a time with the thread that brings it. */
typedef struct pool pool;
pool* pool_create(int64_t threads);
void pool_destroy(pool* workers);
typedef void (*pool_work)(void* job, int64_t item, int64_t worker);
void pool_run(pool* workers, pool_work work, void* job, int64_t n);
int64_t pool_size(const pool* workers); /* the calling thread included */

typedef struct merge_slot {
    int32_t left, right, rank, result; /* rank -1: empty */
} merge_slot;

typedef struct tokenizer {
    mapping file;
    int64_t pieces, merges, slots; /* slots: a power of two */
    int64_t longest;               /* bytes of a piece */
    const uint32_t* ends;
    const int32_t* of_bytes;
    const uint8_t *control, *classes, *text;
    merge_slot* table;
} tokenizer;

struct smollm {
    smollm_shape shape;
    int64_t hidden;
    double epsilon;
    mapping file;
    matrix embedding;
    layer_weights* layers;
    const float* output_norm;
    float *cosines, *sines; /* [context_tokens, head_dim / 2] */
    tokenizer tokens;
    pthread_mutex_t computing; /* held by every call that uses what follows */
    int computing_made;
    pool* workers;
    float* panels;        /* one unpacked panel per worker */
    float* scratch;       /* rows between two products */
    int64_t scratch_size; /* in floats */
};

/* Fails with a message: returns -1. */
int map_file(const char* folder, const char* name, const char* magic, mapping* out, char* message, int64_t message_bytes);
void unmap_file(mapping* file);
int tokenizer_open(tokenizer* out, const char* folder, char* message, int64_t message_bytes);
void tokenizer_close(tokenizer* tokens);

/* What becomes of a product's element `sum` at out. */
typedef enum product_use { product_store, product_add, product_gate } product_use; /* sum; out + sum; silu(out) * sum */

/* out [n, out_stride] (+)= in [n, inputs] times the transposed matrix. */
void multiply(smollm* model, const matrix* weights, const float* in, int64_t n, float* out, int64_t out_stride, product_use use);
/* One row of the matrix as floats. */
void matrix_row(const matrix* weights, int64_t row, float* out);

#endif

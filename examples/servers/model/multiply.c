/* The matrix product. A panel of 16 outputs is unpacked once into floats, which stay in the second-level cache, and serves all rows,
 * six at a time. Each element is one chain of multiply-adds over the inputs in order: its bits depend on its own row alone.
 * Large batches are bound by multiply-adds, one row by unpacking the codes. */
#include <math.h>
#include <string.h>

#include "model.h"

enum { rows_at_once = 6 };

/* Half a panel; read from and written to any address. */
typedef float floats8 __attribute__((vector_size(32), aligned(4), may_alias));

/* The same source is compiled for each processor, and inlined into the functions that bear its name. */
#define INLINE static inline __attribute__((always_inline))

/* floats [inputs, 16] */
INLINE void unpack(const matrix* weights, int64_t panel, float* restrict out) {
    const int64_t blocks = weights->inputs / block_inputs;
    const uint8_t* block = weights->bytes + panel * blocks * weights->block_bytes;
    for (int64_t b = 0; b < blocks; b++, block += weights->block_bytes) {
        float scale[panel_outputs], minimum[panel_outputs];
        memcpy(scale, block, sizeof scale);
        if (weights->block_bytes == four_bit_block) {
            memcpy(minimum, block + sizeof scale, sizeof minimum);
            const uint8_t* codes = block + sizeof scale + sizeof minimum;
            for (int i = 0; i < block_inputs; i++, codes += 8, out += panel_outputs) {
                for (int j = 0; j < 8; j++)
                    out[j] = scale[j] * (float)(codes[j] & 15) + minimum[j];
                for (int j = 0; j < 8; j++)
                    out[8 + j] = scale[8 + j] * (float)(codes[j] >> 4) + minimum[8 + j];
            }
        } else {
            const int8_t* codes = (const int8_t*)block + sizeof scale;
            for (int i = 0; i < block_inputs; i++, codes += panel_outputs, out += panel_outputs)
                for (int j = 0; j < panel_outputs; j++)
                    out[j] = scale[j] * (float)codes[j];
        }
    }
}

/* sums [rows, 16] of rows <= 6 rows; inlined once per number of rows. */
INLINE void tile(const float* panel, const float* in, int64_t inputs, int rows, float* sums) {
    floats8 low[rows_at_once], high[rows_at_once];
    for (int r = 0; r < rows; r++)
        low[r] = high[r] = (floats8){0};
    for (int64_t i = 0; i < inputs; i++) {
        const floats8 left = *(const floats8*)(panel + i * panel_outputs), right = *(const floats8*)(panel + i * panel_outputs + 8);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const float x = in[r * inputs + i];
            low[r] += left * x;
            high[r] += right * x;
        }
    }
    for (int r = 0; r < rows; r++) {
        *(floats8*)(sums + r * panel_outputs) = low[r];
        *(floats8*)(sums + r * panel_outputs + 8) = high[r];
    }
}

INLINE void tile_of(const float* panel, const float* in, int64_t inputs, int64_t rows, float* sums) {
    switch (rows) {
    case 1:
        tile(panel, in, inputs, 1, sums);
        break;
    case 2:
        tile(panel, in, inputs, 2, sums);
        break;
    case 3:
        tile(panel, in, inputs, 3, sums);
        break;
    case 4:
        tile(panel, in, inputs, 4, sums);
        break;
    case 5:
        tile(panel, in, inputs, 5, sums);
        break;
    default:
        tile(panel, in, inputs, 6, sums);
        break;
    }
}

typedef void (*unpack_function)(const matrix*, int64_t, float*);
typedef void (*tile_function)(const float*, const float*, int64_t, int64_t, float*);

static void unpack_plain(const matrix* weights, int64_t panel, float* out) { unpack(weights, panel, out); }
static void tile_plain(const float* panel, const float* in, int64_t inputs, int64_t rows, float* sums) {
    tile_of(panel, in, inputs, rows, sums);
}
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void unpack_avx2(const matrix* weights, int64_t panel, float* out) {
    unpack(weights, panel, out);
}
__attribute__((target("avx2,fma"))) static void tile_avx2(const float* panel, const float* in, int64_t inputs, int64_t rows,
                                                          float* sums) {
    tile_of(panel, in, inputs, rows, sums);
}
#endif

static int has_avx2(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}

typedef struct product {
    const matrix* weights;
    const float* in;
    float* out;
    float* panels;
    int64_t n, out_stride, panel_floats;
    product_use use;
    unpack_function unpack;
    tile_function tile;
} product;

static void apply(product_use use, const float* sums, float* out) {
    for (int j = 0; j < panel_outputs; j++) {
        if (use == product_store) out[j] = sums[j];
        if (use == product_add) out[j] += sums[j];
        if (use == product_gate) out[j] = out[j] / (1.0f + expf(-out[j])) * sums[j];
    }
}

static void multiply_panel(void* job, int64_t item, int64_t worker) {
    const product* self = job;
    float* panel = self->panels + worker * self->panel_floats;
    float sums[rows_at_once * panel_outputs];
    self->unpack(self->weights, item, panel);
    for (int64_t row = 0; row < self->n; row += rows_at_once) {
        const int64_t rows = self->n - row < rows_at_once ? self->n - row : rows_at_once;
        self->tile(panel, self->in + row * self->weights->inputs, self->weights->inputs, rows, sums);
        for (int64_t r = 0; r < rows; r++)
            apply(self->use, sums + r * panel_outputs, self->out + (row + r) * self->out_stride + item * panel_outputs);
    }
}

void multiply(smollm* model, const matrix* weights, const float* in, int64_t n, float* out, int64_t out_stride, product_use use) {
    product job = {weights, in, out, model->panels, n, out_stride, panel_outputs * model->hidden, use, unpack_plain, tile_plain};
#if defined(__x86_64__)
    if (has_avx2()) job.unpack = unpack_avx2, job.tile = tile_avx2;
#endif
    pool_run(model->workers, multiply_panel, &job, weights->outputs / panel_outputs);
}

void matrix_row(const matrix* weights, int64_t row, float* out) {
    const int64_t blocks = weights->inputs / block_inputs, j = row % panel_outputs;
    const uint8_t* block = weights->bytes + row / panel_outputs * blocks * weights->block_bytes;
    for (int64_t b = 0; b < blocks; b++, block += weights->block_bytes) {
        float scale;
        memcpy(&scale, block + 4 * j, sizeof scale);
        const int8_t* codes = (const int8_t*)block + 4 * panel_outputs;
        for (int i = 0; i < block_inputs; i++)
            *out++ = scale * (float)codes[i * panel_outputs + j];
    }
}

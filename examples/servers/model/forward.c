/* The forward pass around attention. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { logits_rows = 32 }; /* rows whose logits are held at a time while tokens are chosen */

/* Rows between two products; what they held is gone. NULL if the host has no memory. */
static float* scratch(smollm* model, int64_t floats) {
    if (floats > model->scratch_size) {
        free(model->scratch);
        model->scratch = malloc((size_t)floats * sizeof(float));
        model->scratch_size = model->scratch ? floats : 0;
    }
    return model->scratch;
}

static void normalize(const smollm* model, const float* x, const float* weight, int64_t n, float* out) {
    const int64_t width = model->shape.width;
    for (int64_t row = 0; row < n; row++, x += width, out += width) {
        double squares = 0;
        for (int64_t i = 0; i < width; i++)
            squares += (double)x[i] * x[i];
        const float factor = (float)(1.0 / sqrt(squares / (double)width + model->epsilon));
        for (int64_t i = 0; i < width; i++)
            out[i] = x[i] * factor * weight[i];
    }
}

/* Turns adjacent pairs: the conversion to GGUF has put those channels beside each other that turn together. */
static void turn(const smollm* model, const float* in, int64_t position, int64_t heads, float* out) {
    const int64_t half = model->shape.head_dim / 2;
    const float *cosine = model->cosines + position * half, *sine = model->sines + position * half;
    for (int64_t head = 0; head < heads; head++)
        for (int64_t i = 0; i < half; i++, in += 2, out += 2) {
            const float a = in[0], b = in[1];
            out[0] = a * cosine[i] - b * sine[i];
            out[1] = a * sine[i] + b * cosine[i];
        }
}

static int all_below(const int64_t* numbers, int64_t n, int64_t limit) {
    for (int64_t i = 0; i < n; i++)
        if (numbers[i] < 0 || numbers[i] >= limit) return 0;
    return 1;
}

int64_t smollm_embed(smollm* model, const int64_t* tokens, int64_t n, float* x) {
    if (n < 0 || !all_below(tokens, n, model->shape.vocabulary)) return -1;
    for (int64_t i = 0; i < n; i++)
        matrix_row(&model->embedding, tokens[i], x + i * model->shape.width);
    return 0;
}

static int64_t project(smollm* model, const layer_weights* layer, const float* x, const int64_t* positions, int64_t n, float* q,
                       float* k, float* v) {
    const smollm_shape* shape = &model->shape;
    const int64_t q_width = shape->q_heads * shape->head_dim, kv_width = shape->kv_heads * shape->head_dim,
                  all = q_width + 2 * kv_width;
    float* normal = scratch(model, n * (shape->width + all));
    if (!normal) return -1;
    float* qkv = normal + n * shape->width;
    normalize(model, x, layer->attention_norm, n, normal);
    multiply(model, &layer->qkv, normal, n, qkv, all, product_store);
    for (int64_t i = 0; i < n; i++, qkv += all) {
        turn(model, qkv, positions[i], shape->q_heads, q + i * q_width);
        turn(model, qkv + q_width, positions[i], shape->kv_heads, k + i * kv_width);
        memcpy(v + i * kv_width, qkv + q_width + kv_width, (size_t)kv_width * sizeof(float));
    }
    return 0;
}

int64_t smollm_project(smollm* model, int64_t layer, const float* x, const int64_t* positions, int64_t n, float* q, float* k,
                       float* v) {
    if (n < 0 || layer < 0 || layer >= model->shape.layers || !all_below(positions, n, model->shape.context_tokens)) return -1;
    pthread_mutex_lock(&model->computing);
    const int64_t status = project(model, &model->layers[layer], x, positions, n, q, k, v);
    pthread_mutex_unlock(&model->computing);
    return status;
}

static int64_t mix(smollm* model, const layer_weights* layer, float* x, const float* attended, int64_t n) {
    const int64_t width = model->shape.width, hidden = model->hidden;
    float* normal = scratch(model, n * (width + hidden));
    if (!normal) return -1;
    float* gated = normal + n * width;
    multiply(model, &layer->attention_output, attended, n, x, width, product_add);
    normalize(model, x, layer->feed_norm, n, normal);
    multiply(model, &layer->gate, normal, n, gated, hidden, product_store);
    multiply(model, &layer->up, normal, n, gated, hidden, product_gate);
    multiply(model, &layer->down, gated, n, x, width, product_add);
    return 0;
}

int64_t smollm_mix(smollm* model, int64_t layer, float* x, const float* attended, int64_t n) {
    if (n < 0 || layer < 0 || layer >= model->shape.layers) return -1;
    pthread_mutex_lock(&model->computing);
    const int64_t status = mix(model, &model->layers[layer], x, attended, n);
    pthread_mutex_unlock(&model->computing);
    return status;
}

/* normal: room for n rows */
static void logits_of(smollm* model, const float* x, const int64_t* rows, int64_t n, float* normal, float* out) {
    const int64_t width = model->shape.width;
    for (int64_t i = 0; i < n; i++)
        normalize(model, x + rows[i] * width, model->output_norm, 1, normal + i * width);
    multiply(model, &model->embedding, normal, n, out, model->shape.vocabulary, product_store);
}

static int no_row_below_zero(const int64_t* rows, int64_t n) { return all_below(rows, n, INT64_MAX); }

int64_t smollm_logits(smollm* model, const float* x, const int64_t* rows, int64_t n_rows, float* out) {
    if (n_rows < 0 || !no_row_below_zero(rows, n_rows)) return -1;
    pthread_mutex_lock(&model->computing);
    float* normal = scratch(model, n_rows * model->shape.width);
    if (normal) logits_of(model, x, rows, n_rows, normal, out);
    pthread_mutex_unlock(&model->computing);
    return normal ? 0 : -1;
}

int64_t smollm_choose(smollm* model, const float* x, const int64_t* rows, int64_t n_rows, int64_t* out) {
    if (n_rows < 0 || !no_row_below_zero(rows, n_rows)) return -1;
    const int64_t vocabulary = model->shape.vocabulary, most = n_rows < logits_rows ? n_rows : logits_rows;
    pthread_mutex_lock(&model->computing);
    float* normal = scratch(model, most * (model->shape.width + vocabulary));
    for (int64_t first = 0; normal && first < n_rows; first += logits_rows) {
        const int64_t n = n_rows - first < logits_rows ? n_rows - first : logits_rows;
        float* logits = normal + most * model->shape.width;
        logits_of(model, x, rows + first, n, normal, logits);
        for (int64_t i = 0; i < n; i++, logits += vocabulary) {
            int64_t best = 0;
            for (int64_t token = 1; token < vocabulary; token++)
                if (logits[token] > logits[best]) best = token;
            out[first + i] = best;
        }
    }
    pthread_mutex_unlock(&model->computing);
    return normal || n_rows == 0 ? 0 : -1;
}

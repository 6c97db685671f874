/* Opens and closes a model: maps the files of convert.py and checks that they are whole. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"

enum { header_bytes = 128, alignment = 64 };

static int fail(char* message, int64_t message_bytes, const char* what, const char* path, const char* why) {
    if (message && message_bytes > 0)
        snprintf(message, (size_t)message_bytes, "%s%s%s%s%s", what, *path ? " " : "", path, *why ? ": " : "", why);
    return -1;
}

int map_file(const char* folder, const char* name, const char* magic, mapping* out, char* message, int64_t message_bytes) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        return fail(message, message_bytes, "the path is too long:", name, "");
    }
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (descriptor < 0 || fstat(descriptor, &info)) {
        const char* why = strerror(errno);
        if (descriptor >= 0) close(descriptor);
        return fail(message, message_bytes, "cannot read", path, why);
    }
    void* bytes = info.st_size < header_bytes ? MAP_FAILED : mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    close(descriptor);
    if (bytes == MAP_FAILED) return fail(message, message_bytes, "cannot map", path, "");
    *out = (mapping){bytes, info.st_size};
    if (memcmp(bytes, magic, 8)) {
        unmap_file(out);
        return fail(message, message_bytes, "not a file of convert.py, or of another version:", path, "");
    }
    return 0;
}

void unmap_file(mapping* file) {
    if (file->bytes) munmap((void*)file->bytes, (size_t)file->size);
    *file = (mapping){NULL, 0};
}

/* Takes the next tensor off the file; NULL beyond its end. */
static const uint8_t* take(const mapping* file, int64_t* at, int64_t bytes) {
    const uint8_t* here = file->bytes + *at;
    *at += (bytes + alignment - 1) / alignment * alignment;
    return *at <= file->size ? here : NULL;
}

static const float* take_vector(const mapping* file, int64_t* at, int64_t n) { return (const float*)take(file, at, n * 4); }

static matrix take_matrix(const mapping* file, int64_t* at, int64_t outputs, int64_t inputs, int64_t block_bytes) {
    const uint8_t* bytes = take(file, at, outputs / panel_outputs * (inputs / block_inputs) * block_bytes);
    return (matrix){bytes, outputs, inputs, block_bytes};
}

/* The sizes of the file's header, each within what the library can hold. */
static int read_header(smollm* model) {
    int64_t sizes[9];
    double reals[2];
    memcpy(sizes, model->file.bytes + 8, sizeof sizes);
    memcpy(reals, model->file.bytes + 8 + sizeof sizes, sizeof reals);
    for (int i = 0; i < 8; i++)
        if (sizes[i] < 1 || sizes[i] > 1 << 20) return -1;
    model->shape = (smollm_shape){sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[6], sizes[7], sizes[8], 0};
    model->hidden = sizes[5];
    model->epsilon = reals[1];
    if (model->hidden < model->shape.width) return -1; /* the unpacked panels have room for hidden inputs */
    const int64_t half = model->shape.head_dim / 2, angles = model->shape.context_tokens * half;
    model->cosines = malloc((size_t)angles * sizeof(float));
    model->sines = malloc((size_t)angles * sizeof(float));
    if (!model->cosines || !model->sines) return -1;
    for (int64_t i = 0; i < half; i++) {
        const double frequency = pow(reals[0], -2.0 * (double)i / (double)model->shape.head_dim);
        for (int64_t position = 0; position < model->shape.context_tokens; position++) {
            model->cosines[position * half + i] = (float)cos((double)position * frequency);
            model->sines[position * half + i] = (float)sin((double)position * frequency);
        }
    }
    return 0;
}

static int take_tensors(smollm* model) {
    const smollm_shape* shape = &model->shape;
    const int64_t width = shape->width, q_width = shape->q_heads * shape->head_dim, kv_width = shape->kv_heads * shape->head_dim;
    const mapping* file = &model->file;
    int64_t at = header_bytes;
    model->layers = calloc((size_t)shape->layers, sizeof *model->layers);
    if (!model->layers) return -1;
    model->embedding = take_matrix(file, &at, shape->vocabulary, width, eight_bit_block);
    for (int64_t i = 0; i < shape->layers && at <= file->size; i++) {
        layer_weights* layer = &model->layers[i];
        layer->attention_norm = take_vector(file, &at, width);
        layer->qkv = take_matrix(file, &at, q_width + 2 * kv_width, width, four_bit_block);
        layer->attention_output = take_matrix(file, &at, width, q_width, four_bit_block);
        layer->feed_norm = take_vector(file, &at, width);
        layer->gate = take_matrix(file, &at, model->hidden, width, four_bit_block);
        layer->up = take_matrix(file, &at, model->hidden, width, four_bit_block);
        layer->down = take_matrix(file, &at, width, model->hidden, four_bit_block);
    }
    model->output_norm = take_vector(file, &at, width);
    return at == file->size ? 0 : -1;
}

static int open_parts(smollm* model, const char* folder, int64_t threads, char* message, int64_t message_bytes) {
    if (map_file(folder, "weights.bin", "smollmw1", &model->file, message, message_bytes)) return -1;
    if (read_header(model) || take_tensors(model)) return fail(message, message_bytes, "damaged:", folder, "weights.bin");
    if (tokenizer_open(&model->tokens, folder, message, message_bytes)) return -1;
    if (model->tokens.pieces != model->shape.vocabulary)
        return fail(message, message_bytes, "tokens.bin is of another model:", folder, "");
    model->shape.prompt_bytes = model->shape.context_tokens * model->tokens.longest;
    model->workers = pool_create(threads);
    model->panels = malloc((size_t)((threads + 1) * panel_outputs * model->hidden) * sizeof(float));
    model->computing_made = !pthread_mutex_init(&model->computing, NULL);
    if (!model->workers || !model->panels || !model->computing_made)
        return fail(message, message_bytes, "no memory for threads", "", "");
    return 0;
}

smollm* smollm_open(const char* folder, int64_t threads, char* message, int64_t message_bytes) {
    if (!folder || threads < 0 || threads > SMOLLM_THREADS_MOST) {
        char why[80];
        snprintf(why, sizeof why, "threads = %lld are out of range (0 .. %d)", (long long)threads, SMOLLM_THREADS_MOST);
        fail(message, message_bytes, "open", "", folder ? why : "folder is NULL");
        return NULL;
    }
    smollm* model = calloc(1, sizeof *model);
    if (!model) {
        fail(message, message_bytes, "no memory", "", "");
        return NULL;
    }
    if (open_parts(model, folder, threads, message, message_bytes)) {
        smollm_close(model);
        return NULL;
    }
    return model;
}

void smollm_close(smollm* model) {
    if (!model) return;
    pool_destroy(model->workers);
    if (model->computing_made) pthread_mutex_destroy(&model->computing);
    tokenizer_close(&model->tokens);
    unmap_file(&model->file);
    free(model->layers);
    free(model->cosines);
    free(model->sines);
    free(model->panels);
    free(model->scratch);
    free(model);
}

void smollm_shape_get(const smollm* model, smollm_shape* out) { *out = model->shape; }

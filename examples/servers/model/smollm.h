/* smollm.h - SmolLM2-135M without its KV cache: the tokenizer and everything of the forward pass but attention.
 *
 * One pass over a ragged batch of n rows, one row a token, whatever sequences they belong to:
 *
 *     smollm_embed(model, tokens, n, x);
 *     for (layer = 0; layer < shape.layers; layer++) {
 *         smollm_project(model, layer, x, positions, n, q, k, v);
 *         kvc_append(step, layer, k, ...), kvc_attend(step, layer, q, ..., attended, ...);
 *         smollm_mix(model, layer, x, attended, n);
 *     }
 *     smollm_choose(model, x, rows, n_rows, chosen);
 *
 * Shapes     all f32, row-major: x [n, width], q and attended [n, q_heads, head_dim], k and v [n, kv_heads, head_dim]. Keys and queries
 *            come turned by RoPE, so kvc keeps them at its defaults.
 * Batches    every sum has one order, so a row comes out the same bit for bit whatever rows stand beside it and however many threads work.
 * Threads    calls that compute wait for each other (they share the model's worker threads); the tokenizer's calls run side by side.
 * Errors     0 is success, -1 a value out of range; nothing has been written then.
 */
#ifndef SMOLLM_H
#define SMOLLM_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMOLLM_API __attribute__((visibility("default")))

typedef struct smollm smollm;

typedef struct smollm_shape {
    int64_t layers, width, q_heads, kv_heads, head_dim, vocabulary;
    int64_t context_tokens; /* positions 0 .. context_tokens - 1 */
    int64_t end_token;      /* the model's text ends before it */
    int64_t prompt_bytes;   /* context_tokens of the longest token: text of more bytes is too long, without being encoded */
} smollm_shape;

/* Maps the files weights.bin and tokens.bin that convert.py wrote into a folder. threads: that work besides the calling one, 0 .. SMOLLM_THREADS_MOST.
 * NULL on failure, and why in message. */
#define SMOLLM_THREADS_MOST 256
SMOLLM_API smollm* smollm_open(const char* folder, int64_t threads, char* message, int64_t message_bytes);
/* No other call may be under way. NULL is nothing. */
SMOLLM_API void smollm_close(smollm* model);
SMOLLM_API void smollm_shape_get(const smollm* model, smollm_shape* out);

/* Tokens of UTF-8 text. Control tokens such as <|im_start|> are recognised where the text spells them. Writes at most capacity and
 * returns how many there are; -1 if host memory is exhausted. */
SMOLLM_API int64_t smollm_encode(const smollm* model, const char* text, int64_t text_bytes, int64_t* out, int64_t capacity);
/* The text of one more token, as whole UTF-8 characters: bytes of one that is not complete yet wait in pending, 8 bytes that are zero at
 * the beginning of a text. What cannot become a character is written as U+FFFD. token -1 ends the text. Control tokens have none.
 * Returns the bytes written, never a NUL among them; -1 if capacity is below SMOLLM_TEXT_BYTES or the token is none. */
SMOLLM_API int64_t smollm_text(const smollm* model, int64_t token, uint8_t pending[8], char* out, int64_t capacity);
#define SMOLLM_TEXT_BYTES 1024

SMOLLM_API int64_t smollm_embed(smollm* model, const int64_t* tokens, int64_t n, float* x);
/* Norm, projections and RoPE of one layer. */
SMOLLM_API int64_t smollm_project(smollm* model, int64_t layer, const float* x, const int64_t* positions, int64_t n, float* q, float* k,
                                  float* v);
/* The rest of the layer: adds to x the projected attention, then the gated feed-forward network. */
SMOLLM_API int64_t smollm_mix(smollm* model, int64_t layer, float* x, const float* attended, int64_t n);
/* Logits [n_rows, vocabulary] of some rows of x. */
SMOLLM_API int64_t smollm_logits(smollm* model, const float* x, const int64_t* rows, int64_t n_rows, float* out);
/* Their most likely tokens; the lowest one of equals. */
SMOLLM_API int64_t smollm_choose(smollm* model, const float* x, const int64_t* rows, int64_t n_rows, int64_t* out);

#ifdef __cplusplus
}
#endif
#endif /* SMOLLM_H */

/* Byte-level BPE as GPT-2 has it, with SmolLM's rule that digits stand alone.
 *
 * Text is cut in three steps. Control tokens are taken out where they are spelled. What lies between is cut before and after every
 * number character. Each part is cut by GPT-2's expression
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * and each word becomes the tokens of its bytes, of which neighbours are joined, the pair of lowest rank first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { letter = 1, number = 2, space = 4, code_points = 0x110000, none = -1 };

/* ---- The file ---- */

static uint64_t hash_of(int32_t left, int32_t right) {
    const uint64_t mixed = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return mixed ^ mixed >> 29;
}

static const merge_slot* find_merge(const tokenizer* tokens, int32_t left, int32_t right) {
    const uint64_t mask = (uint64_t)tokens->slots - 1;
    for (uint64_t i = hash_of(left, right) & mask;; i = (i + 1) & mask) {
        const merge_slot* slot = &tokens->table[i];
        if (slot->rank == none || (slot->left == left && slot->right == right)) return slot;
    }
}

static int fill_table(tokenizer* tokens, const int32_t* merges) {
    for (tokens->slots = 1; tokens->slots < 2 * tokens->merges;)
        tokens->slots *= 2;
    tokens->table = malloc((size_t)tokens->slots * sizeof *tokens->table);
    if (!tokens->table) return -1;
    for (int64_t i = 0; i < tokens->slots; i++)
        tokens->table[i].rank = none;
    for (int64_t rank = 0; rank < tokens->merges; rank++, merges += 3) {
        merge_slot* slot = (merge_slot*)find_merge(tokens, merges[0], merges[1]);
        if (slot->rank == none) *slot = (merge_slot){merges[0], merges[1], (int32_t)rank, merges[2]};
    }
    return 0;
}

int tokenizer_open(tokenizer* out, const char* folder, char* message, int64_t message_bytes) {
    if (map_file(folder, "tokens.bin", "smollmt1", &out->file, message, message_bytes)) return -1;
    int64_t sizes[3];
    memcpy(sizes, out->file.bytes + 8, sizeof sizes);
    const int64_t most = 1 << 24;
    int whole = sizes[0] > 0 && sizes[0] < most && sizes[1] > 0 && sizes[1] < most && sizes[2] > 0 && sizes[2] < most;
    if (whole) whole = 32 + sizes[0] * 5 + sizes[1] * 12 + 256 * 4 + code_points + sizes[2] == out->file.size;
    out->pieces = sizes[0], out->merges = sizes[1];
    const uint8_t* at = out->file.bytes + 32;
    out->ends = (const uint32_t*)at;
    const int32_t* merges = (const int32_t*)(at += sizes[0] * 4);
    out->of_bytes = (const int32_t*)(at += sizes[1] * 12);
    out->control = at += 256 * 4;
    out->classes = at += sizes[0];
    out->text = at + code_points;
    out->longest = 0;
    for (int64_t i = 0; whole && i < out->pieces; i++) {
        const int64_t bytes = (int64_t)out->ends[i] - (i ? out->ends[i - 1] : 0);
        if (bytes > out->longest) out->longest = bytes;
    }
    if (!whole || fill_table(out, merges)) {
        if (message && message_bytes > 0) snprintf(message, (size_t)message_bytes, "damaged, or no memory: %s/tokens.bin", folder);
        return -1;
    }
    return 0;
}

void tokenizer_close(tokenizer* tokens) {
    unmap_file(&tokens->file);
    free(tokens->table);
}

/* ---- Characters ---- */

/* Bytes of the character at text, 1 .. 4; of bytes that are none, the 1 .. 3 that U+FFFD stands for: as many as begin one. */
static int64_t character(const uint8_t* text, int64_t bytes, int32_t* code) {
    const uint8_t first = text[0];
    const int64_t length = first < 0x80                    ? 1
                           : first >= 0xC2 && first < 0xE0 ? 2
                           : first >= 0xE0 && first < 0xF0 ? 3
                           : first >= 0xF0 && first < 0xF5 ? 4
                                                           : 0;
    *code = none;
    if (length == 0) return 1;
    int32_t value = length == 1 ? first : first & (0x7F >> length);
    for (int64_t i = 1; i < length; i++) {
        uint8_t low = 0x80, high = 0xBF;
        if (i == 1) { /* no overlong forms, no surrogates, nothing above U+10FFFF */
            low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
            high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        }
        if (i >= bytes || text[i] < low || text[i] > high) return i;
        value = value << 6 | (text[i] & 0x3F);
    }
    *code = value;
    return length;
}

static int class_at(const tokenizer* tokens, const uint8_t* text, int64_t bytes, int64_t* length) {
    int32_t code;
    *length = character(text, bytes, &code);
    return code == none ? 0 : tokens->classes[code];
}

/* ---- Words ---- */

static int64_t contraction(const uint8_t* text, int64_t bytes) {
    static const char* const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const int64_t length = (int64_t)strlen(endings[i]);
        if (length <= bytes && !memcmp(text, endings[i], (size_t)length)) return length;
    }
    return 0;
}

/* Bytes from `from` on that belong to one class. */
static int64_t run_of(const tokenizer* tokens, const uint8_t* text, int64_t bytes, int64_t from, int class, int64_t* last) {
    int64_t at = from, length;
    *last = 0;
    while (at < bytes && class_at(tokens, text + at, bytes - at, &length) == class)
        at += * last = length;
    return at;
}

/* Bytes of the first match of GPT-2's expression. */
static int64_t word_length(const tokenizer* tokens, const uint8_t* text, int64_t bytes) {
    const int64_t ending = contraction(text, bytes);
    if (ending) return ending;
    const int64_t from = text[0] == ' ' ? 1 : 0;
    int64_t length, last;
    if (from < bytes) {
        const int class = class_at(tokens, text + from, bytes - from, &length);
        if (class != space) return run_of(tokens, text, bytes, from, class, &last);
    }
    /* White space leaves its last character to the word that follows, if there is one and it has another. */
    const int64_t end = run_of(tokens, text, bytes, 0, space, &last);
    return end == bytes || end == last ? end : end - last;
}

/* ---- Joining ---- */

typedef struct symbol {
    int32_t token, before, after; /* token none: joined to another */
} symbol;

typedef struct candidate {
    int32_t rank, at, left, right;
} candidate;

typedef struct word_space {
    symbol* symbols;
    candidate* heap;
    int64_t room, heaped;
} word_space;

static int earlier(candidate a, candidate b) { return a.rank < b.rank || (a.rank == b.rank && a.at < b.at); }

static void heap_push(word_space* work, candidate item) {
    int64_t at = work->heaped++;
    for (; at > 0 && earlier(item, work->heap[(at - 1) / 2]); at = (at - 1) / 2)
        work->heap[at] = work->heap[(at - 1) / 2];
    work->heap[at] = item;
}

static candidate heap_pop(word_space* work) {
    const candidate top = work->heap[0], item = work->heap[--work->heaped];
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < work->heaped; at = child) {
        if (child + 1 < work->heaped && earlier(work->heap[child + 1], work->heap[child])) child++;
        if (!earlier(work->heap[child], item)) break;
        work->heap[at] = work->heap[child];
    }
    work->heap[at] = item;
    return top;
}

static void consider(const tokenizer* tokens, word_space* work, int32_t at) {
    const symbol* left = &work->symbols[at];
    if (left->after == none) return;
    const merge_slot* merge = find_merge(tokens, left->token, work->symbols[left->after].token);
    if (merge->rank != none) heap_push(work, (candidate){merge->rank, at, merge->left, merge->right});
}

/* Each join pushes two candidates at most, and there are fewer joins than symbols. */
static int make_room(word_space* work, int64_t symbols) {
    if (symbols <= work->room) return 0;
    free(work->symbols);
    free(work->heap);
    work->symbols = malloc((size_t)symbols * sizeof *work->symbols);
    work->heap = malloc((size_t)symbols * 3 * sizeof *work->heap);
    work->room = work->symbols && work->heap ? symbols : 0;
    return work->room ? 0 : -1;
}

typedef struct token_list {
    int64_t* out;
    int64_t capacity, n;
} token_list;

static void put(token_list* list, int64_t token) {
    if (list->n < list->capacity) list->out[list->n] = token;
    list->n++;
}

static int encode_word(const tokenizer* tokens, word_space* work, const uint8_t* text, int64_t bytes, token_list* list) {
    int32_t n = 0;
    if (make_room(work, bytes)) return -1;
    for (int64_t i = 0; i < bytes; i++) {
        if (tokens->of_bytes[text[i]] == none) continue; /* the vocabulary does not know this byte */
        work->symbols[n] = (symbol){tokens->of_bytes[text[i]], n - 1, n + 1};
        n++;
    }
    if (n == 0) return 0;
    work->symbols[n - 1].after = none;
    work->heaped = 0;
    for (int32_t i = 0; i < n; i++)
        consider(tokens, work, i);
    while (work->heaped > 0) {
        const candidate next = heap_pop(work);
        symbol* left = &work->symbols[next.at];
        if (left->token != next.left || left->after == none || work->symbols[left->after].token != next.right) continue;
        symbol* right = &work->symbols[left->after];
        left->token = find_merge(tokens, next.left, next.right)->result;
        left->after = right->after;
        right->token = none;
        if (left->after != none) work->symbols[left->after].before = next.at;
        if (left->before != none) consider(tokens, work, left->before);
        consider(tokens, work, next.at);
    }
    for (int32_t i = 0; i != none; i = work->symbols[i].after)
        put(list, work->symbols[i].token);
    return 0;
}

/* ---- Text ---- */

static int encode_part(const tokenizer* tokens, word_space* work, const uint8_t* text, int64_t bytes, token_list* list) {
    while (bytes > 0) {
        const int64_t length = word_length(tokens, text, bytes);
        if (encode_word(tokens, work, text, length, list)) return -1;
        text += length, bytes -= length;
    }
    return 0;
}

/* Numbers stand alone. */
static int encode_plain(const tokenizer* tokens, word_space* work, const uint8_t* text, int64_t bytes, token_list* list) {
    int64_t begin = 0, length;
    for (int64_t at = 0; at < bytes; at += length) {
        if (class_at(tokens, text + at, bytes - at, &length) != number) continue;
        if (encode_part(tokens, work, text + begin, at - begin, list) || encode_part(tokens, work, text + at, length, list)) return -1;
        begin = at + length;
    }
    return encode_part(tokens, work, text + begin, bytes - begin, list);
}

static int64_t piece_of(const tokenizer* tokens, int64_t token, const uint8_t** text) {
    const int64_t begin = token ? tokens->ends[token - 1] : 0;
    *text = tokens->text + begin;
    return tokens->ends[token] - begin;
}

/* The control token spelled at text; none = -1. */
static int64_t control_at(const tokenizer* tokens, const uint8_t* text, int64_t bytes, int64_t* length) {
    int64_t found = none;
    *length = 0;
    for (int64_t token = 0; token < tokens->pieces && tokens->control[token]; token++) { /* they come first */
        const uint8_t* piece;
        const int64_t size = piece_of(tokens, token, &piece);
        if (size > *length && size <= bytes && !memcmp(text, piece, (size_t)size)) found = token, *length = size;
    }
    return found;
}

int64_t smollm_encode(const smollm* model, const char* text, int64_t text_bytes, int64_t* out, int64_t capacity) {
    if (text_bytes < 0 || capacity < 0 || (text_bytes > 0 && !text) || text_bytes > INT32_MAX) return -1;
    const tokenizer* tokens = &model->tokens;
    const uint8_t* bytes = (const uint8_t*)text;
    token_list list = {out, out ? capacity : 0, 0};
    word_space work = {0};
    int64_t begin = 0, length;
    int failed = 0;
    for (int64_t at = 0; at < text_bytes && !failed;) {
        const int64_t token = bytes[at] == '<' ? control_at(tokens, bytes + at, text_bytes - at, &length) : none;
        if (token == none) {
            at++;
            continue;
        }
        failed = encode_plain(tokens, &work, bytes + begin, at - begin, &list);
        put(&list, token);
        begin = at += length;
    }
    if (!failed) failed = encode_plain(tokens, &work, bytes + begin, text_bytes - begin, &list);
    free(work.symbols);
    free(work.heap);
    return failed ? -1 : list.n;
}

int64_t smollm_text(const smollm* model, int64_t token, uint8_t pending[8], char* out, int64_t capacity) {
    const tokenizer* tokens = &model->tokens;
    if (capacity < SMOLLM_TEXT_BYTES || token < none || token >= tokens->pieces) return -1;
    /* pending [0 .. 3): bytes; [7]: how many. */
    uint8_t bytes[SMOLLM_TEXT_BYTES / 3];
    int64_t n = pending[7] <= 3 ? pending[7] : 0, written = 0;
    memcpy(bytes, pending, (size_t)n);
    if (token != none && !tokens->control[token]) {
        const uint8_t* piece;
        const int64_t size = piece_of(tokens, token, &piece);
        if (n + size > (int64_t)sizeof bytes) return -1;
        memcpy(bytes + n, piece, (size_t)size);
        n += size;
    }
    int64_t at = 0, length;
    for (int32_t code; at < n; at += length) {
        length = character(bytes + at, n - at, &code);
        if (code == none && at + length == n && token != none && length < 4 && bytes[at] >= 0xC2 && bytes[at] < 0xF5)
            break; /* may go on */
        const char* from = code > 0 ? (const char*)bytes + at : "\xEF\xBF\xBD";
        const int64_t size = code > 0 ? length : 3;
        memcpy(out + written, from, (size_t)size);
        written += size;
    }
    memset(pending, 0, 8);
    memcpy(pending, bytes + at, (size_t)(n - at));
    pending[7] = (uint8_t)(n - at);
    return written;
}

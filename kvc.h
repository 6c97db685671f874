/* kvc.h - the key/value cache of LLM inference, kept compressed.
 *
 * kvc stores the keys and values of attention layers as codes of 16, 8, 4, 3 or 2 bits in pages of 64 tokens and computes
 * attention straight from those pages. The newest tokens (the residual window) and the first ones (sinks) stay in 16 bits.
 *
 * A complete program: one layer, one sequence, one token.
 *
 *     #include <kvc.h>
 *     #include <stdio.h>
 *     static int failed(const kvc_error* err) { return fprintf(stderr, "%s\n", err->message), 1; }
 *     int main(void) {
 *         kvc_error err = {.struct_size = sizeof err};
 *         kvc_options options;
 *         kvc_options_init(&options, sizeof options);
 *         options.layers = 1;
 *         options.kv_heads = 2;
 *         options.q_heads = 4;
 *         options.k_dim = options.v_dim = 64;
 *         options.arena_tokens = 4096;
 *         kvc_cache* cache = kvc_create(&options, NULL, 0, &err);
 *         if (!cache) return failed(&err);
 *         kvc_seq seq = kvc_seq_create(cache, NULL, &err);
 *         if (!seq) return failed(&err);
 *         float k[2 * 64] = {0}, v[2 * 64] = {0}, q[4 * 64] = {0}, out[4 * 64];
 *         int64_t count = 1;
 *         kvc_step* step = kvc_step_begin(cache, &seq, &count, 1, NULL, 0, NULL, &err);
 *         if (!step) return failed(&err);
 *         if (kvc_append(step, 0, k, sizeof k, v, sizeof v, &err) ||
 *             kvc_attend(step, 0, q, sizeof q, out, sizeof out, NULL, 0, NULL, &err) ||
 *             kvc_step_commit(step, NULL, 0, &err)) return failed(&err);
 *         kvc_destroy(cache, &err);
 *         return 0;
 *     }
 *
 * Steps      One forward pass of a server is a step over a ragged batch of sequences: begin reserves all memory in all
 *            layers, append and attend run once per layer for the whole batch, commit publishes, abort undoes everything.
 * Shapes     k [tokens, kv_heads, k_dim], v [tokens, kv_heads, v_dim], q [tokens, q_heads, k_dim], out [tokens, q_heads, v_dim],
 *            row-major; tokens runs over the sequences of the step in their order. Query head h reads kv head h / (q_heads / kv_heads).
 * Units      Lengths in tokens, sizes in bytes, strides in elements. Positions are absolute: the first token of a sequence is at its
 *            first_position (0 unless said), and truncate, fork, evict and read-back take and give the same numbers.
 * Ownership  kvc copies what it is given before a call returns and keeps no pointer to a caller's buffer, but for an arena block.
 * Errors     Functions that can fail return kvc_status, creators NULL or 0; the last parameter, which may be NULL, tells what, which
 *            and the limit. A call that fails has changed nothing. Results are named out or out_x and written on success only.
 * Handles    kvc_cache*, kvc_step* and kvc_graph* are values, never memory: a NULL, stale, foreign or twice destroyed one is KVC_E_HANDLE.
 * Threads    Every function may be called from any thread. Calls with a const cache run side by side; calls that change one cache
 *            wait for each other; steps over different sequences of a cache run in parallel; caches are independent. A cache has one
 *            pool of options.threads workers (0, the default: none, the caller computes alone); a step that finds it busy runs without.
 * Forks      After fork() of the process a child uses what it inherited, without worker threads; KVC_E_FORKED where another thread
 *            was changing that cache at the fork. Devices do not survive one.
 * Structs    Field 0 is struct_size; the _init functions fill in defaults; a zero field always means its default, so zeroing a struct
 *            and setting struct_size does the same: {.struct_size = sizeof x} in C, x{} and then the field in C++.
 */
#ifndef KVC_H
#define KVC_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define KVC_API
#else
#define KVC_API __attribute__((visibility("default")))
#endif

#define KVC_ABI_VERSION 1

/* ---- Version, build, ABI ---- */

/* Version of the library, as "1.2.3". Never NULL; static. */
KVC_API const char* kvc_version(void);
/* KVC_ABI_VERSION of the library that was loaded. */
KVC_API int64_t kvc_abi_version(void);
/* Compiler, kernel targets and CUDA architectures of this build ("cuda 13.0 for sm_80 sm_90a", or "no cuda"), one line. Static. */
KVC_API const char* kvc_build_info(void);
/* Describes every public struct and enum, one line each, so that a binding can compare:
 *     struct kvc_error 248 ; field status 4 4 i32 ; ... (name, offset, bytes, type)     enum kvc_status KVC_OK 0
 * Writes at most out_bytes including the final NUL; returns the bytes needed, so that (NULL, 0) asks for the size. */
KVC_API int64_t kvc_abi_describe(char* out, int64_t out_bytes);

/* ---- Status and errors ---- */

typedef enum kvc_status {
    KVC_OK = 0,
    KVC_E_ARGUMENT = 1,    /* a value is wrong; the message says which and what is allowed */
    KVC_E_HANDLE = 2,      /* not a live cache, step or sequence */
    KVC_E_RANGE = 3,       /* a position that is not held, or below the exact floor */
    KVC_E_ORDER = 4,       /* the calls of a step came in the wrong order */
    KVC_E_BUSY = 5,        /* the sequence belongs to an open step */
    KVC_E_NO_MEMORY = 6,   /* arena, budget or host memory is exhausted; retry after freeing */
    KVC_E_NONFINITE = 7,   /* NaN, infinity, or a number beyond the window's type */
    KVC_E_UNSUPPORTED = 8, /* a valid request that this build or machine cannot serve; the message says why */
    KVC_E_FORKED = 9,      /* the process forked and this call needs what did not survive */
    KVC_E_INTERNAL = 10,   /* a fault of kvc; please report it */
    KVC_E_CORRUPT = 11,    /* bytes that are no snapshot, or no longer one */
    KVC_E_IO = 12,         /* a file could not be read or written; the message has the system's reason */
    KVC_E_DEVICE = 13,     /* the device failed, now or in something launched before; the cache is lost: it only answers, destroy it */
    KVC_E_CAPTURE = 14,    /* not what the graph was created or captured for, or a call that a capture cannot hold */
    KVC_E_AGAIN = 15,      /* nothing is free now, and nothing has changed: the same call later succeeds */
    KVC_STATUS_MAX_ = 0x7fffffff
} kvc_status;

typedef struct kvc_error {
    uint32_t struct_size; /* sizeof(kvc_error); nothing is written into a smaller one */
    int32_t status;       /* kvc_status of the failed call; untouched by calls that succeed */
    char message[240];    /* UTF-8; what is none in a text or path of the caller's becomes '?' */
} kvc_error;

/* "KVC_E_HANDLE" for KVC_E_HANDLE; "unknown" for a number that is none. Static. */
KVC_API const char* kvc_status_name(int32_t status);

/* ---- Types ---- */

typedef struct kvc_cache kvc_cache;
typedef struct kvc_step kvc_step;
typedef struct kvc_graph kvc_graph;
typedef int64_t kvc_seq; /* a sequence of one cache; 0 is none */

/* Element types of callers' buffers: DLPack's type code * 256 + bits. */
typedef enum kvc_dtype {
    KVC_DTYPE_DEFAULT = 0, /* f32 */
    KVC_F16 = 0x210,
    KVC_F32 = 0x220,
    KVC_BF16 = 0x410,
    KVC_DTYPE_MAX_ = 0x7fffffff
} kvc_dtype;

/* Where the cache lives: DLPack's device codes. */
typedef enum kvc_device {
    KVC_DEVICE_DEFAULT = 0, /* KVC_CPU */
    KVC_CPU = 1,
    KVC_CUDA = 2,
    KVC_DEVICE_MAX_ = 0x7fffffff
} kvc_device;

typedef enum kvc_part { KVC_PART_UNSET = 0, KVC_KEYS = 1, KVC_VALUES = 2, KVC_PART_MAX_ = 0x7fffffff } kvc_part;

/* Rotary positions (RoFormer, arXiv 2104.09864): which channels turn together, whether keys and queries come turned, and by which
 * positions they turn. In-cache positions close the gap that evicted tokens leave (StreamingLLM, arXiv 2309.17453). */
typedef enum kvc_rope_pairs { KVC_ROPE_HALVES = 0, KVC_ROPE_INTERLEAVED = 1, KVC_ROPE_PAIRS_MAX_ = 0x7fffffff } kvc_rope_pairs;
typedef enum kvc_keys { KVC_KEYS_AFTER_ROPE = 0, KVC_KEYS_BEFORE_ROPE = 1, KVC_KEYS_MAX_ = 0x7fffffff } kvc_keys;
typedef enum kvc_positions { KVC_POSITIONS_TRUE = 0, KVC_POSITIONS_IN_CACHE = 1, KVC_POSITIONS_MAX_ = 0x7fffffff } kvc_positions;

/* ---- Discovery ---- */

/* Presets: fp16 bf16 int8 int4 int3 k3v2 int2 kivi4 kivi2. The name is static; NULL out of range. */
KVC_API int64_t kvc_preset_count(void);
KVC_API const char* kvc_preset_name(int64_t index);
/* Parses a codec (preset name or string, grammar in docs/FORMATS.md, e.g. "k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=128,sinks=4")
 * and writes its canonical string with a final NUL. Returns the bytes needed; 0 with err filled in if the text is no codec. */
KVC_API int64_t kvc_codec_format(const char* codec, char* out, int64_t out_bytes, kvc_error* err);
/* Policies: streaming h2o mean_attention tova snapkv key_norm expected_attention key_diversity cluster given, and best, which names the
 * combination that loses the least at a fifth of the tokens (docs/POLICIES.md). Static; NULL out of range. */
KVC_API int64_t kvc_policy_count(void);
KVC_API const char* kvc_policy_name(int64_t index);
/* The same of a policy string (grammar in docs/POLICIES.md, e.g. "h2o:20%" or "streaming:4+512"): its canonical form with all
 * defaults, which can be longer than kvc_options.policy holds. */
KVC_API int64_t kvc_policy_format(const char* policy, char* out, int64_t out_bytes, kvc_error* err);
/* Kernel targets that this machine can run, best first, such as avx2, scalar. Static; NULL out of range. */
KVC_API int64_t kvc_target_count(void);
KVC_API const char* kvc_target_name(int64_t index);
/* Devices of a kind that this build and machine have. 0 with err filled in if there are none: KVC_E_UNSUPPORTED, and the message says
 * why (no backend in this build, no driver or one too old, no hardware) and what to do. KVC_CPU: 1. */
KVC_API int64_t kvc_device_count(int32_t device, kvc_error* err);
/* The name of one of them, with a final NUL, also of a device that this build has no code for; takes no memory there. Returns the bytes
 * needed; 0 with err filled in on failure. */
KVC_API int64_t kvc_device_describe(int32_t device, int64_t ordinal, char* out, int64_t out_bytes, kvc_error* err);

/* ---- Options ---- */

typedef struct kvc_options {
    uint32_t struct_size;
    int32_t device;         /* kvc_device */
    int64_t layers;         /* required, 1 .. 4096 */
    int64_t kv_heads;       /* required, 1 .. 1024 */
    int64_t q_heads;        /* a multiple of kv_heads, at most 16 times; 0 = kv_heads */
    int64_t k_dim, v_dim;   /* head dims, multiples of 16 up to 256 (v_dim with kivi2 or kivi4: of 32); v_dim 0 = k_dim */
    int64_t sliding_window; /* a query sees this many newest tokens, itself included; 0 = all */
    char codec[128];        /* preset, codec string, ladder, or "@FILE": a calibration, docs/FORMATS.md section 6; "" = "int4" */
    char target[16]; /* kernel target to force, for tests; "" = the best one; on a device also where memory comes from, see Device */
    int64_t arena_bytes;     /* size of the arena; or say arena_tokens, or hand over arena_block */
    int64_t arena_tokens;    /* instead: room for arena_sequences (0 = 1) sequences of so many tokens each, */
    int64_t arena_sequences; /*          run as kvc_plan_compute describes with step_tokens = 512; only with arena_tokens */
    void* arena_block;       /* instead: memory of the caller, 128-byte aligned, arena_bytes long, kept until kvc_destroy */
    int32_t arena_growth;    /* 1 = take further slabs from the host when the arena is full */
    int32_t spare_pages;     /* 16-bit pages kept below the window, so that rollbacks of 64 * this are exact */
    int64_t threads;         /* worker threads besides the calling one; 0 = the calling thread only */
    int32_t saturate;        /* 1 = clamp numbers beyond the window's type instead of refusing; NaN and infinity never pass */
    int32_t rope_pairs;      /* kvc_rope_pairs; this and the next four matter unless keys come after RoPE at true positions */
    int32_t keys;            /* kvc_keys: KVC_KEYS_BEFORE_ROPE = k and q come unturned, kvc turns both while it attends (slower) */
    int32_t positions;       /* kvc_positions: KVC_POSITIONS_IN_CACHE needs evictions that leave no gaps but behind the sinks */
    double rope_theta;       /* pair i turns by theta^(-2 i / rope_dims) <= 1e9 a position; or see kvc_rope_frequencies_set */
    int64_t rope_dims;       /* leading channels that turn, even; 0 = k_dim */
    /* For slabs; on a device for all memory there (see Device). NULL = the host's or the driver's. Gives NULL on failure, never throws. */
    void* (*allocate)(void* context, int64_t bytes, int64_t alignment);
    void (*release)(void* context, void* block, int64_t bytes);
    void* allocator_context;
    char policy[128];       /* eviction policy with its budget, docs/POLICIES.md; "" = nothing is evicted */
    int64_t context_tokens; /* what a budget in percent is a share of; 0 = the prompt_length given to kvc_seq_create */
    int64_t device_ordinal; /* which device of that kind; records lie in its memory, and so does arena_block if there is one */
} kvc_options;

/* What differs in one layer; a zero field means: as in kvc_options. sliding_window -1 = all tokens. */
typedef struct kvc_layer {
    uint32_t struct_size;
    int32_t reserved;
    int64_t kv_heads, q_heads, k_dim, v_dim;
    int64_t sliding_window;
    char codec[128];
    double rope_theta;
} kvc_layer;

KVC_API kvc_status kvc_options_init(kvc_options* options, int64_t struct_size);
KVC_API kvc_status kvc_layer_init(kvc_layer* layer, int64_t struct_size);
/* Would kvc_create take these options? KVC_OK, or the status and reason that it would give. Allocates no arena. The CPU takes all codecs
 * and head dims. KVC_CUDA takes the presets at head dims 64, 80, 96, 112, 128, 256, k 96 with v 64 and k 192 with v 128, and some codecs
 * besides: docs/FORMATS.md section 1, "On CUDA devices". */
KVC_API kvc_status kvc_supports(const kvc_options* options, const kvc_layer* layers, int64_t n_layers, kvc_error* err);

/* ---- Memory planning ---- */

typedef struct kvc_plan_request {
    uint32_t struct_size;
    int32_t partial_commit; /* 1 = steps are begun with partial_commit */
    int64_t tokens;         /* tokens per sequence */
    int64_t sequences;      /* parallel sequences; 0 = 1 */
    int64_t step_tokens;    /* tokens of one sequence per step while its prompt is read; 0 = 512 */
    int64_t budget_bytes;   /* for the two max_ answers; 0 = do not compute them */
} kvc_plan_request;

typedef struct kvc_plan {
    uint32_t struct_size;
    int32_t reserved;
    int64_t arena_bytes;      /* smallest arena that runs the request (prompts one after another, then all decode together), */
                              /* be its tokens as many as requested or fewer: some lengths need more than longer ones */
    int64_t slab_bytes;       /* slab size of that arena */
    int64_t record_bytes;     /* records held at rest by all sequences of that length */
    int64_t fp16_bytes;       /* the same tokens as plain 16-bit numbers */
    int64_t max_tokens;       /* in an arena of budget_bytes `sequences` can have every context up to this one; 0 = none fits */
    int64_t max_sequences;    /* most sequences of `tokens` tokens in such an arena; 0 = none fits */
    double codec_bits;        /* bits per element of a code record, padding included, mean over layers */
    double effective_bits;    /* record_bytes * 8 / elements: sinks, window and partial records included, tables not */
    int64_t checkpoint_bytes; /* records that an entry of the prefix index at `tokens` holds alone, once its source has gone on */
} kvc_plan;

KVC_API kvc_status kvc_plan_request_init(kvc_plan_request* request, int64_t struct_size);
/* The allocator's own arithmetic: a cache that is run as requested holds exactly record_bytes, and no arena smaller than arena_bytes runs
 * all lengths up to `tokens`. Under a policy that scores tokens both are bounds, as what it keeps where depends on the data. Refuses what
 * kvc_create would refuse, a request that no arena can hold included; but the size of the arena may be left open.
 * A budget in percent is a share of options.context_tokens at any length. Where that is 0 it is a share of the length itself: of `tokens`,
 * and for max_tokens of each length that is tried, as of sequences whose prompt_length is that. Those of shorter prompts keep less and
 * run in the same arena. out->struct_size must be set. */
KVC_API kvc_status kvc_plan_compute(const kvc_options* options, const kvc_layer* layers, int64_t n_layers,
                                    const kvc_plan_request* request, kvc_plan* out, kvc_error* err);

/* ---- Cache ---- */

/* Creates a cache. layers = NULL, n_layers = 0: all layers as in options; otherwise n_layers must equal options->layers
 * and every element must say the same struct_size.
 * A calibration file is read here, in kvc_supports and in kvc_plan_compute, and not kept open; a layer's own codec goes before it.
 * The caller destroys it. NULL on failure (KVC_E_ARGUMENT, KVC_E_UNSUPPORTED, KVC_E_NO_MEMORY, KVC_E_IO). */
KVC_API kvc_cache* kvc_create(const kvc_options* options, const kvc_layer* layers, int64_t n_layers, kvc_error* err);
/* Destroys the cache with its sequences and open steps. A call that still runs on another thread finishes first. */
KVC_API kvc_status kvc_destroy(kvc_cache* cache, kvc_error* err);
/* Learned sink logits of a layer, one per query head, used by every later attend of that layer; n = 0 takes them away.
 * KVC_E_BUSY while steps are open. */
KVC_API kvc_status kvc_sink_logits_set(kvc_cache* cache, int64_t layer, const float* logits, int64_t n, kvc_error* err);

/* The caller's own RoPE frequencies of a layer, radians per position [rope_dims / 2], from -1e9 to 1e9, instead of those of
 * rope_theta. Before the cache's first sequence, otherwise KVC_E_ORDER. */
KVC_API kvc_status kvc_rope_frequencies_set(kvc_cache* cache, int64_t layer, const double* frequencies, int64_t n, kvc_error* err);

/* ---- Sequences ---- */

typedef struct kvc_seq_options {
    uint32_t struct_size;
    int32_t reserved;
    int64_t first_position; /* position of the first token, 0 .. 2^53 */
    int64_t prompt_length;  /* see kvc_seq_prompt_set; 0 = decode kernels for all queries */
} kvc_seq_options;

/* What truncate and fork may do below kvc_seq_exact_floor. */
typedef enum kvc_cut { KVC_CUT_EXACT = 0, KVC_CUT_INEXACT = 1, KVC_CUT_MAX_ = 0x7fffffff } kvc_cut;

KVC_API kvc_status kvc_seq_options_init(kvc_seq_options* options, int64_t struct_size);
/* An empty sequence; options may be NULL. 0 on failure. */
KVC_API kvc_seq kvc_seq_create(kvc_cache* cache, const kvc_seq_options* options, kvc_error* err);
KVC_API kvc_status kvc_seq_destroy(kvc_cache* cache, kvc_seq seq, kvc_error* err);
/* A new sequence with the tokens below position `length`; full pages are shared until one side changes them. 0 on failure. */
KVC_API kvc_seq kvc_seq_fork(kvc_cache* cache, kvc_seq seq, int64_t length, int32_t cut, kvc_error* err);
/* Forgets the tokens at position `length` and above. At or above the exact floor it is as if they had never been appended;
 * below it KVC_E_RANGE, unless cut = KVC_CUT_INEXACT. */
KVC_API kvc_status kvc_seq_truncate(kvc_cache* cache, kvc_seq seq, int64_t length, int32_t cut, kvc_error* err);
/* Position of the next token: first_position + tokens committed. */
KVC_API kvc_status kvc_seq_length(const kvc_cache* cache, kvc_seq seq, int64_t* out, kvc_error* err);
/* Lowest length to which truncate and fork are exact. Pages turn into codes as the sequence grows, so without spare pages that is 0
 * to 63 tokens back; options.spare_pages adds 64 tokens each. 16-bit codecs: the first position. What was evicted, merged or stepped
 * down no cut brings back: after it, and at each commit under a policy that counts mass, the floor is the length. To go on from an
 * earlier length, fork or publish (kvc_prefix_publish) it before, or cut with KVC_CUT_INEXACT. */
KVC_API kvc_status kvc_seq_exact_floor(const kvc_cache* cache, kvc_seq seq, int64_t* out, kvc_error* err);
/* Tokens kept by one layer and kv head. */
KVC_API kvc_status kvc_seq_live(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, kvc_error* err);
/* Their positions, ascending; capacity in elements, KVC_E_ARGUMENT if it is too small. Their number goes to out_tokens, which may be NULL: it
 * is that of the list, whatever other threads commit and evict after kvc_seq_live has answered. */
KVC_API kvc_status kvc_seq_positions(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                                     int64_t* out_tokens, kvc_error* err);
/* Queries at positions below `end` use the prompt kernels, the others the decode kernels, however the stream is cut into
 * steps: so equal streams give equal bits. Set it before a prompt is read (also at creation: prompt_length). A policy with
 * every=never that looks at the last queries counts those before `end`, for kvc_evict there. */
KVC_API kvc_status kvc_seq_prompt_set(kvc_cache* cache, kvc_seq seq, int64_t end, kvc_error* err);

/* Replaces the amount of the cache's policy for one sequence, from its next boundary on: tokens per layer and kv head, or bytes where
 * the policy counts bytes; 0 = the policy's own again. What was evicted stays evicted. */
KVC_API kvc_status kvc_seq_budget_set(kvc_cache* cache, kvc_seq seq, int64_t budget, kvc_error* err);
/* The most tokens that a step may add to a sequence: up to the next boundary of a policy that scores tokens or of a ladder with ages,
 * otherwise 2^40. */
KVC_API kvc_status kvc_seq_step_limit(const kvc_cache* cache, kvc_seq seq, int64_t* out, kvc_error* err);

/* ---- Step ---- */

typedef struct kvc_step_options {
    uint32_t struct_size;
    int32_t kv_dtype, q_dtype, out_dtype;  /* kvc_dtype of k and v, of q, of out */
    int64_t k_token_stride, k_head_stride; /* in elements; 0 = dense */
    int64_t v_token_stride, v_head_stride;
    int64_t q_token_stride, q_head_stride;
    int64_t out_token_stride, out_head_stride; /* rows of out must not overlap */
    int32_t partial_commit; /* 1 = commit may accept a part of the tokens (speculative decoding): keeps all layers in 16 bits */
    int32_t strict;         /* 1 = decode kernels for all queries */
    int32_t accumulate;     /* 1 = attends add attention mass per token (kvc_seq_read_mass); not with partial_commit */
    int32_t buffers;  /* kvc_device: where k, v, q, out and lse lie; 0 = KVC_CPU, otherwise the device of the cache. Taken at its */
                      /* word: a buffer that lies elsewhere is undefined behaviour, like any wrong pointer (see Device) */
    void* stream;     /* of the device's (a CUstream), which the step's work is put on; NULL = one of kvc's own */
    kvc_graph* graph; /* the step is captured in this graph, or replays it; NULL = neither */
} kvc_step_options;

KVC_API kvc_status kvc_step_options_init(kvc_step_options* options, int64_t struct_size);
/* Begins a step that adds token_counts[i] >= 0 tokens to each of n different sequences, and reserves everything it can need.
 * positions: NULL, or n_positions = n numbers that must equal the sequences' lengths (a guard against lost updates).
 * A count above kvc_seq_step_limit is KVC_E_ARGUMENT, and so is partial_commit with a policy that needs attention.
 * Options may be NULL. NULL on failure: KVC_E_NO_MEMORY, KVC_E_BUSY, KVC_E_HANDLE, KVC_E_ARGUMENT. */
KVC_API kvc_step* kvc_step_begin(kvc_cache* cache, const kvc_seq* seqs, const int64_t* token_counts, int64_t n,
                                 const int64_t* positions, int64_t n_positions, const kvc_step_options* options, kvc_error* err);
/* Stores the keys and values of one layer; each layer once, in any order. Bytes must cover the declared strides exactly or more. Here
 * and in kvc_attend a buffer whose address is no multiple of its numbers' size (2 or 4 bytes) is KVC_E_ARGUMENT, wherever it lies. */
KVC_API kvc_status kvc_append(kvc_step* step, int64_t layer, const void* k, int64_t k_bytes, const void* v, int64_t v_bytes,
                              kvc_error* err);
/* Publishes the step: all tokens (accepted = NULL), or the first accepted[i] of each sequence if it was begun with partial_commit.
 * Every layer must have been appended. Ends the step; on failure it stays open. */
KVC_API kvc_status kvc_step_commit(kvc_step* step, const int64_t* accepted, int64_t n, kvc_error* err);
/* Ends the step as if it had never begun. */
KVC_API kvc_status kvc_step_abort(kvc_step* step, kvc_error* err);

/* ---- Device ---- */

/* A cache with device = KVC_CUDA keeps its records on the device, and its kernels run there; tables and decisions stay on the host.
 *
 * Streams    With buffers on the device, append, attend and commit put their work on the step's stream and return; k, v, q and out are
 *            ordinary buffers of that stream. Steps that begin after others ended come after them, whatever their streams. With
 *            buffers on the host the calls return when out is written: each attend waits, and kvc_stats.synchronizations counts it.
 *            Whose memory a buffer of a step is, nobody asks, as that would take time in every call: one that is not where
 *            kvc_step_options.buffers says ends the process, or costs the cache when the fault surfaces. Memory that the device reaches
 *            where it lies may be said to be there: managed memory, and that of KVC_BUFFER_PINNED.
 * Captures   Other streams may be captured meanwhile, in any mode and by any thread: that is nothing to kvc, and kvc spoils no capture.
 *            While a step's own stream is captured, a begin without a graph, calls of a step that was begun before, its commit and abort,
 *            and kvc_synchronize are KVC_E_CAPTURE; after the capture they succeed. The same holds of the legacy default stream while a
 *            stream is captured that waits for it. What evicts, steps down, imports or reads back other sequences meanwhile, and
 *            kvc_destroy, cannot wait for such a step: they cost the cache.
 * Waits      Nothing else waits but kvc_synchronize, commits of steps that accumulate mass or after which a policy acts, and what reads
 *            records or depends on the values of new tokens: fork, truncate, evict, merge, step-down, publish, snapshot and
 *            read-back, and a begin 1,024 steps after the last wait; kvc_buffer_create, _destroy and _copy where they say so; a call
 *            that finds memory short; and a host that is too far ahead of the device. It can be two whole steps ahead, each layer
 *            appended and attended once, as long as these send no more than 64 MiB of tables (16 bytes for each page of each
 *            sequence, layer and kv head, mostly); begin waits beyond 64 steps, append with buffers on the host where the numbers
 *            of two appends are on their way, attend where 16 MiB of counters of mass are, and what evicts or steps down where the
 *            tables of some 10,000 new pages are. kvc_stats.synchronizations counts each wait, of a call that waits several times, too.
 * Numbers    A token that 16 bits cannot hold (KVC_E_NONFINITE on the CPU) is found later: append and commit succeed, and once one of
 *            the calls above has waited, the sequence answers KVC_E_NONFINITE to all but kvc_seq_destroy and kvc_seq_truncate to
 *            that position or below (inexact where the exact floor is above it, as under a policy that scores attention). No policy
 *            acts on it before. Other sequences are as they were.
 * Memory     Records, buffers and what steps work in come from cudaMalloc. A target that ends in ",pool" (such as ",pool" or "cuda,pool")
 *            takes them from the device's default memory pool, which the program shares and whose release threshold is the program's
 *            to set; ",pool=own" from a pool of the cache's own, which keeps what comes back until kvc_destroy. Pools give and take
 *            back in the order of streams, so nothing waits for it. KVC_E_UNSUPPORTED where the device has no pools.
 *            options.allocate, if given, serves all of it instead, graphs and evictions included; with a pool it is KVC_E_ARGUMENT. It
 *            is asked for some bytes and the alignment 256, and gives memory of that device that the work of any stream may use at
 *            once. NULL is KVC_E_NO_MEMORY. A block that is not aligned, or not the device's memory, is given back and refused:
 *            KVC_E_ARGUMENT where it was for a graph or for what steps work in, as NULL where it was for records or a buffer. options.release gets a block with its bytes when no work that was queued uses it any
 *            more, during a call that waits or finds memory short, the last ones in kvc_destroy. Both run inside of calls of kvc, also
 *            kvc_supports and kvc_plan_compute (some MiB, given back), on the caller's thread with the device selected if it can be, never two at a time for one cache,
 *            and may not call kvc for it. Not theirs are pinned memory and what CUDA takes by itself (context, kernels, streams).
 *            An arena_block must be memory of that device, or managed; what CUDA says to be another's is KVC_E_ARGUMENT.
 * Faults     Asynchronous faults surface at the next call that waits as KVC_E_DEVICE, and in all calls that would change the cache
 *            after it. */

/* Graphs     The launches of a step can be held in a CUDA graph of the caller's and run again while sequences grow: the host's part of a
 *            replay is one begin, one launch and one commit, whatever the number of layers.
 *            Capture: on a stream that is being captured, begin a step with options.graph, options.stream and buffers on the device, call
 *            kvc_append and kvc_attend as ever, commit; then end the capture and instantiate. This computes and publishes nothing: the
 *            sequences stay as they were. A later capture takes the place of the one before.
 *            Replay: kvc_step_begin with the same graph and options, on a stream that is not captured, sends the tables of all calls to
 *            the device; launch the graph once on that stream, with new numbers in the same buffers; then commit, or abort. append
 *            and attend are KVC_E_ORDER. Sequences may be others than those captured, of any lengths up to max_tokens.
 *            KVC_E_CAPTURE: other counts or options than those captured, a sequence beyond max_tokens, with merged tokens or with
 *            queries of the prompt class (options.strict has none), or sink logits set or taken away since. KVC_E_AGAIN: the tables
 *            of `slots` steps have yet to reach the device. Replays neither wait nor allocate on the device.
 *            Steps of a graph keep all layers in 16 bits until commit, as partial_commit does. CUDA loads kernels when they first run, so
 *            run an ordinary step before the first capture. */

/* For steps of counts[i] >= 0 tokens of n sequences, none of which then has more than max_tokens tokens; attends: kvc_attend calls in
 * a step (0 = one for each layer); slots: steps whose tables may be on their way (0 = 4, at most 64). Its memory grows with max_tokens.
 * The caller destroys it after its CUDA graph; kvc_destroy does, too. NULL on failure: KVC_E_UNSUPPORTED for a cache on the host,
 * a policy that needs attention or merges, and in-cache positions of keys after RoPE; KVC_E_NO_MEMORY, KVC_E_ARGUMENT. */
KVC_API kvc_graph* kvc_graph_create(kvc_cache* cache, const int64_t* counts, int64_t n, int64_t max_tokens, int64_t attends,
                                    int64_t slots, kvc_error* err);
/* KVC_E_BUSY while a step names it. What was launched goes on. */
KVC_API kvc_status kvc_graph_destroy(kvc_graph* graph, kvc_error* err);

/* Waits for all that was launched for the cache; on the host it does nothing. KVC_E_DEVICE if any of it failed. */
KVC_API kvc_status kvc_synchronize(kvc_cache* cache, kvc_error* err);

/* Memory for callers that have no library of the device's own. KVC_BUFFER_PINNED is memory of the host that the device reads and writes
 * without a copy in between: to kvc_buffer_copy it is the host's, and steps take it as either side's. As the device's it is read and
 * written over the bus whenever a kernel comes to it, so until the step's stream is done it is not the host's to touch. */
typedef enum kvc_buffer_kind {
    KVC_BUFFER_UNSET = 0,
    KVC_BUFFER_DEVICE = 1,
    KVC_BUFFER_PINNED = 2,
    KVC_BUFFER_KIND_MAX_ = 0x7fffffff
} kvc_buffer_kind;

/* bytes of it, 256-byte aligned, in or for the cache's device, of use to any stream at once: waits where what was launched may still be
 * at work in that memory. The caller destroys it before the cache. NULL on failure: KVC_E_NO_MEMORY, KVC_E_ARGUMENT, KVC_E_UNSUPPORTED
 * for a cache on the host. */
KVC_API void* kvc_buffer_create(kvc_cache* cache, int32_t kind, int64_t bytes, kvc_error* err);
/* kvc's own work with it is done first, for which KVC_BUFFER_PINNED waits; the caller's must be. Pinned memory that cannot be waited for,
 * as while the stream of an open step is captured, is freed by kvc_destroy. */
KVC_API kvc_status kvc_buffer_destroy(kvc_cache* cache, int32_t kind, void* buffer, kvc_error* err);
/* Copies between any two of device buffers (kvc_device of each side: the cache's device, or KVC_CPU for memory of the host), behind all
 * that was launched before. It waits to the host, and to the device for what is more than 1 MiB of a pinned buffer or, of other memory of
 * the host, where 4 MiB of such copies are on their way. KVC_E_ARGUMENT, and nothing is copied, where a side is not memory of the kind that
 * is said (managed memory is of both), or has fewer bytes: of kvc's buffers that is known, of others if CUDA knows. */
KVC_API kvc_status kvc_buffer_copy(kvc_cache* cache, void* to, int32_t to_device, const void* from, int32_t from_device, int64_t bytes,
                                   kvc_error* err);

/* ---- Attend ---- */

typedef struct kvc_attend_options {
    uint32_t struct_size;
    float scale;            /* of the logits, finite; 0 = 1 / sqrt(k_dim). Logits beyond a float's range give NaN */
    float soft_cap;         /* cap * tanh(logit / cap); 0 = none */
    int32_t partial;        /* 1 = leave learned sink logits out, for results that are merged with others by lse */
    int64_t sliding_window; /* 0 = the layer's; -1 = none; not wider than the layer's */
    int64_t causal_offset;  /* a query at position i sees tokens up to i + this; at most 0 */
} kvc_attend_options;

KVC_API kvc_status kvc_attend_options_init(kvc_attend_options* options, int64_t struct_size);
/* Attention of the step's tokens over their sequences, themselves included. After the layer's append, any number of times: a
 * model's layer that shares another one's keys and values attends to that layer. out_lse, if not NULL: f32 [tokens, q_heads], the
 * natural log-sum-exp; a query that sees nothing gives out 0 and lse -infinity, one that holds a NaN or an infinity NaN in its own
 * row and nowhere else. KVC_E_ORDER before the layer's append, or if a later
 * append reused this layer's staging (only tokens that arrive and leave the window within one step; see docs/ARCHITECTURE.md). */
KVC_API kvc_status kvc_attend(kvc_step* step, int64_t layer, const void* q, int64_t q_bytes, void* out, int64_t out_bytes,
                              float* out_lse, int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err);

/* ---- Evict ---- */

typedef struct kvc_evict_options {
    uint32_t struct_size;
    int32_t reserved;
    int64_t layer_begin, layer_end; /* layers acted on; 0, 0 = all */
    int64_t head_begin, head_end;   /* kv heads acted on; 0, 0 = all */
    int64_t budget;                 /* tokens to keep per layer and head, sinks and window included; 0 = those of the cache's policy */
    int64_t recent;                 /* newest tokens to keep besides; never fewer than the residual window holds */
} kvc_evict_options;

typedef struct kvc_evict_report {
    uint32_t struct_size;
    int32_t reserved;
    int64_t tokens_evicted; /* summed over layers and heads */
    int64_t records_freed;
    int64_t bytes_freed;
    int64_t tokens_repacked; /* moved into other pages */
    int64_t tokens_merged;   /* of tokens_evicted: those that joined another one */
} kvc_evict_report;

KVC_API kvc_status kvc_evict_options_init(kvc_evict_options* options, int64_t struct_size);
/* Evicts down to the budget; if tokens leave, the exact floor becomes the length. scores = NULL: by the cache's policy; without one,
 * sinks and the most recent tokens stay (StreamingLLM, arXiv 2309.17453). Otherwise the highest scores stay (ties: the higher
 * position): f32 [layers acted on, heads acted on, length - first_position], n_scores in all. A policy that looks at the last queries is KVC_E_UNSUPPORTED where they have not been
 * counted: between two boundaries, or shortly before the declared end of a prompt (docs/POLICIES.md, "Which queries count").
 * Sinks and the residual window of the codec always stay; of a 16-bit codec, which has none unless its string says so, the first 4
 * tokens stay where there are neither scores nor a policy (but not with KVC_POSITIONS_IN_CACHE). Other sequences never change. The
 * report may be NULL. KVC_E_NO_MEMORY, and nothing has changed, if tokens must move into fuller pages and the arena has no room for
 * these even once what they replace is free: pages that forks hold, too, free nothing, and a full arena needs a slab for the positions
 * of moved tokens. */
KVC_API kvc_status kvc_evict(kvc_cache* cache, kvc_seq seq, const float* scores, int64_t n_scores, const kvc_evict_options* options,
                             kvc_evict_report* out, kvc_error* err);
/* Evicts all tokens but the given positions (ascending), sinks and the residual window; positions that are evicted already may be
 * given, such beyond the sequence are KVC_E_RANGE. With KVC_POSITIONS_IN_CACHE both refuse, as
 * KVC_E_UNSUPPORTED, what would leave a gap anywhere but behind the sinks. */
KVC_API kvc_status kvc_evict_keep(kvc_cache* cache, kvc_seq seq, const int64_t* positions, int64_t n, const kvc_evict_options* options,
                                  kvc_evict_report* out, kvc_error* err);

/* ---- Prefix index ---- */

/* What was computed for one prompt serves the next that begins alike. Publish a sequence under its tokens; look up a prompt and get
 * a sequence that shares the pages of the longest entry; run the rest. An entry is a fork in the index: it shares whole pages, keeps
 * what its source evicted as its source had it, and costs the 16-bit tokens of the window (kvc_plan.checkpoint_bytes) once the source
 * has gone on.
 *
 * Of an entry of n tokens that shares p with a prompt of q, L = min(n, p, q - 1) tokens are taken, if L is at or above the exact floor
 * that its source had; otherwise a shorter entry, otherwise none. So a hit equals the source as it was at L, bit for bit, and any run
 * that was fed the same keys, values and, where a policy scores attention, queries in the same kernel classes (kvc_seq_prompt_set).
 * Entries serve lookups of their own first_position and budgets alone: with a policy in percent, set options.context_tokens.
 *
 * A sealed entry gives up its 16-bit window: it costs a page of codes for each page of the window, and serves lookups at its full n alone.
 * A hit sees its n tokens as codes from then on, as any hit of an entry that was sealed there does, bit for bit (where a policy scores
 * attention: after the same queries over the same codes), but not as a run that was never sealed. Until a window's length behind n, the
 * hit's exact floor is its own length. 16-bit layers have nothing to give up.
 *
 * Tokens are any numbers that stand for the model's input, such as ids or hashes of images. Salts keep tenants apart: at most 4,096
 * bytes, compared like the tokens on every hit; entries are found by SHA-256 over salt and pages of 64 tokens, never taken by it.
 * An index knows one model with one set of weights: clear it when they change.
 *
 * Where the arena has no room for a begin, fork, truncate, evict, merge, publish, lookup or import of a snapshot, the least recently
 * used entries are dropped first, as few as make room, and none if all would not; pinned ones never. A call that runs out of host memory
 * may have dropped some. */
typedef struct kvc_prefix_options {
    uint32_t struct_size;
    int32_t pinned; /* 1 = the entry stays until it is removed */
    int32_t seal;   /* 1 = the entry holds codes alone: n must be its sinks and whole pages of 64 */
    int32_t reserved;
} kvc_prefix_options;

typedef struct kvc_prefix_hit {
    uint32_t struct_size;
    int32_t reserved;
    int64_t tokens; /* L, which the new sequence holds; 0 = a miss */
    int64_t shared; /* the most tokens that the prompt shares with an entry, whether that can be cut there or not */
} kvc_prefix_hit;

typedef struct kvc_prefix_stats {
    uint32_t struct_size;
    int32_t reserved;
    int64_t entries;
    int64_t tokens;       /* of all entries, each in full */
    int64_t record_bytes; /* records that entries hold, each once, those included that sequences hold too */
    int64_t host_bytes;   /* of tokens, digests and lists; part of kvc_stats.table_bytes */
    int64_t budget_bytes; /* of kvc_prefix_budget_set */
    int64_t hits, misses; /* lookups since creation */
    int64_t hit_tokens;   /* sum of their L */
    int64_t evictions;    /* entries dropped for room or budget */
} kvc_prefix_stats;

KVC_API kvc_status kvc_prefix_options_init(kvc_prefix_options* options, int64_t struct_size);
/* Publishes the first n tokens of a sequence, which stays as it is; n at or above its exact floor, otherwise KVC_E_RANGE. The same
 * tokens again refresh their entry, or replace it if the new floor is lower or one of the two is sealed. Options may be NULL. With seal,
 * another length is KVC_E_ARGUMENT, and KVC_E_UNSUPPORTED where the sinks of two layers leave none. KVC_E_NO_MEMORY if the arena or the
 * budget has no room; then no entry was dropped either. */
KVC_API kvc_status kvc_prefix_publish(kvc_cache* cache, kvc_seq seq, const int64_t* tokens, int64_t n, const void* salt,
                                      int64_t salt_bytes, const kvc_prefix_options* options, kvc_error* err);
/* A new sequence with the longest published beginning of a prompt of n tokens, an empty one if there is none; the caller appends the
 * prompt's tokens from out->tokens on. Options (as of kvc_seq_create, may be NULL) count the whole prompt. out->struct_size must be
 * set. 0 on failure. */
KVC_API kvc_seq kvc_prefix_lookup(kvc_cache* cache, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes,
                                  const kvc_seq_options* options, kvc_prefix_hit* out, kvc_error* err);
/* Removes all entries of the salt whose tokens begin with these, pinned ones too; n = 0: all of the salt. Sequences made from them
 * live on. out: how many. */
KVC_API kvc_status kvc_prefix_remove(kvc_cache* cache, const int64_t* tokens, int64_t n, const void* salt, int64_t salt_bytes,
                                     int64_t* out, kvc_error* err);
/* Removes all entries of all salts. */
KVC_API kvc_status kvc_prefix_clear(kvc_cache* cache, kvc_error* err);
/* The most bytes of records that entries may hold from now on; what is beyond is dropped, the least recently used first. 0 = no bound
 * but the arena, which is none where it grows. KVC_E_NO_MEMORY if pinned entries hold more. */
KVC_API kvc_status kvc_prefix_budget_set(kvc_cache* cache, int64_t bytes, kvc_error* err);
/* out->struct_size must be set. */
KVC_API kvc_status kvc_prefix_stats_get(const kvc_cache* cache, kvc_prefix_stats* out, kvc_error* err);

/* ---- Merge ---- */

/* Tokens that leave may join tokens that stay: these get the mean of the values, and if asked of the keys, of all that they stand for,
 * and log(count) is added to their logits. Policies do so with merge=values or merge=keys+values (docs/MERGING.md); kvc_merge takes
 * the caller's clusters, as learned routing gives them. Forks keep every bit; the exact floor becomes the length. */
typedef struct kvc_merge_options {
    uint32_t struct_size;
    int32_t reserved;
    int64_t layer_begin, layer_end, head_begin, head_end; /* as in kvc_evict_options */
    int32_t values_only;                                  /* 1 = the kept token's key stays as it is */
    int32_t unbiased;                                     /* 1 = log(count) is not added to logits */
} kvc_merge_options;

KVC_API kvc_status kvc_merge_options_init(kvc_merge_options* options, int64_t struct_size);
/* clusters [layers acted on, heads acted on, length - first_position], n_clusters in all: entry i of a row names the token that token i
 * joins, both as position - first_position: itself if it stays, -1 if it is dropped. What is joined stays; sinks and the residual
 * window stay, but may be joined. Entries of tokens that left before are not looked at. KVC_E_UNSUPPORTED with in-cache positions,
 * with spare_pages, and on targets whose kernels do not know the bias. Options and report may be NULL. */
KVC_API kvc_status kvc_merge(kvc_cache* cache, kvc_seq seq, const int32_t* clusters, int64_t n_clusters,
                             const kvc_merge_options* options, kvc_evict_report* out, kvc_error* err);
/* Tokens that each live token stands for: 1, or more where others joined it. They add up to the tokens appended, less what was dropped. */
KVC_API kvc_status kvc_seq_read_counts(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                                       int64_t* out_tokens, kvc_error* err);

/* ---- Precision ---- */

/* A codec string can name a ladder: "int8/int4@4096/int2@16384" (docs/PRECISION.md). Pages begin at its first rung, number 0. Those
 * whose newest token is an age (@) behind the end of the sequence go down by themselves at every 512th token, which no step may cross
 * (kvc_seq_step_limit); any page goes down when kvc_step_down says so. Nothing is computed anew: the numbers that a page stands for are
 * coded once more. Sinks, residual window and other sequences never change. */

typedef struct kvc_step_down_options {
    uint32_t struct_size;
    int32_t rung;                   /* lowest rung that pages take; 0 = each layer's lowest */
    int64_t layer_begin, layer_end; /* layers acted on; 0, 0 = all */
    int64_t budget_bytes;           /* the sequence's record_bytes afterwards, at most; 0 = all pages go to `rung` */
    int64_t recent;                 /* pages that hold one of so many newest tokens stay as they are */
} kvc_step_down_options;

typedef struct kvc_step_down_report {
    uint32_t struct_size;
    int32_t reserved;
    int64_t pages;              /* stepped down, summed over layers and heads */
    int64_t tokens_requantized; /* live tokens of those */
    int64_t bytes_freed;        /* of the arena; below 0 if the old pages live on in forks */
    int64_t record_bytes;       /* of the sequence now, as in kvc_seq_stats */
} kvc_step_down_report;

KVC_API kvc_status kvc_step_down_options_init(kvc_step_down_options* options, int64_t struct_size);
/* Steps coded pages of a sequence down; options may be NULL, and so may the report. Within a budget the least valuable pages go first,
 * those with the least attention mass per token where mass is kept, then the oldest, rung by rung; a budget that suffices changes
 * nothing, one that all pages at `rung` exceed is KVC_E_ARGUMENT. The exact floor rises to the length if anything changed.
 * KVC_E_UNSUPPORTED if none of the layers has a ladder; KVC_E_NO_MEMORY, and nothing has changed, if the arena has room neither for the
 * new records beside the old ones nor for them in slabs that the old ones leave. */
KVC_API kvc_status kvc_step_down(kvc_cache* cache, kvc_seq seq, const kvc_step_down_options* options, kvc_step_down_report* out,
                                 kvc_error* err);
/* The rung of the page of each live token; -1: sinks and tokens that are not coded yet. */
KVC_API kvc_status kvc_seq_read_rungs(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                                      int64_t* out_tokens, kvc_error* err);

/* ---- Read-back ---- */

/* kvc_seq_read and kvc_seq_read_codes answer KVC_E_BUSY while the sequence belongs to an open step. */

/* Live tokens `first` .. `first + n` (counted among the live, by position) of one layer and kv head, dequantized and in the basis
 * in which they were appended: f32 [n, dim]. */
KVC_API kvc_status kvc_seq_read(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int32_t part, int64_t first,
                                int64_t n, float* out, int64_t out_bytes, kvc_error* err);
/* Integer codes of the tokens in compressed pages, dead ones included: u8 [tokens, dim]. Returns their number in out_tokens; with
 * out = NULL only that. KVC_E_UNSUPPORTED for 16-bit codecs. */
KVC_API kvc_status kvc_seq_read_codes(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int32_t part, uint8_t* out,
                                      int64_t out_bytes, int64_t* out_tokens, kvc_error* err);
/* Attention mass of each live token since it was appended (with a policy that observes windows: from the queries that
 * count), summed over the query heads of the kv head, in units of 2^-30. */
KVC_API kvc_status kvc_seq_read_mass(const kvc_cache* cache, kvc_seq seq, int64_t layer, int64_t head, int64_t* out, int64_t capacity,
                                     int64_t* out_tokens, kvc_error* err);

/* ---- Stats ---- */

typedef struct kvc_stats {
    uint32_t struct_size;
    int32_t open_steps;
    int64_t arena_bytes;  /* all slabs */
    int64_t bound_bytes;  /* slabs bound to a record size */
    int64_t record_bytes; /* all records in use, the sum of the next line; reserved: by open steps, not published yet */
    int64_t sink_bytes, window_bytes, code_bytes, side_bytes, reserved_bytes;
    int64_t table_bytes;   /* host memory of page tables, sequences and lists of records, outside the arena; a cache takes 3 KB more */
    int64_t scratch_bytes; /* host memory of open steps and worker threads, outside the arena */
    int64_t sequences;
    int64_t tokens_appended; /* since creation, per sequence */
    int64_t tokens_evicted;  /* since creation, per layer and head; not what falls behind a window, as under the policy streaming */
    int64_t pages_quantized;
    int64_t tokens_requantized;
    int64_t slow_calls;       /* attends that dequantize pages explicitly: those over keys before RoPE */
    int64_t tokens_merged;    /* of tokens_evicted */
    int64_t synchronizations; /* waits for the device, of which a call can have several */
    int64_t bytes_staged;     /* of callers' buffers on the host, copied to the device and back */
} kvc_stats;

typedef struct kvc_seq_stats {
    uint32_t struct_size;
    int32_t reserved;
    int64_t tokens;       /* committed */
    int64_t record_bytes; /* records referenced; shared ones count in full */
    int64_t shared_bytes; /* part of it that other sequences reference too */
    int64_t table_bytes;
    int64_t fp16_bytes;    /* the same tokens as plain 16-bit numbers */
    double codec_bits;     /* as in kvc_plan */
    double effective_bits; /* (record_bytes + table_bytes) * 8 / elements */
} kvc_seq_stats;

/* out->struct_size must be set. */
KVC_API kvc_status kvc_stats_get(const kvc_cache* cache, kvc_stats* out, kvc_error* err);
KVC_API kvc_status kvc_seq_stats_get(const kvc_cache* cache, kvc_seq seq, kvc_seq_stats* out, kvc_error* err);

/* ---- Snapshot ---- */

/* Sequences as bytes, and back: to keep them over a restart, to move them between processes and machines, or to free the arena of
 * idle ones (export, kvc_seq_destroy, and later import: examples/c/offload.c). The format, docs/SNAPSHOT.md, is versioned and the
 * same whatever kernels wrote it. An imported sequence goes on exactly as the exported one would have: same outputs, mass, evictions
 * and stored bytes, within what docs/ARCHITECTURE.md (What is reproducible) promises of two targets. Pages that forks share are stored once, and shared again
 * if the forks are exported together.
 * What belongs to the cache does not travel: learned sink logits, threads, target, saturate, arena and the counters of kvc_stats.
 * seqs = NULL, n = 0 means all sequences of the cache, ascending by their kvc_seq. Threads: the cache can be read meanwhile, and
 * steps that are open go on; import makes begins and commits wait while it fills its pages.
 * Checksums find damage, not deceit: bytes of a stranger cannot harm the process, but what they say may be nonsense. */

/* Writes the sequences to out; out = NULL, out_bytes = 0 only asks for the size. out_written: bytes of the snapshot.
 * KVC_E_BUSY if one of them belongs to an open step, KVC_E_ARGUMENT if out is too small or a sequence is named twice. */
KVC_API kvc_status kvc_snapshot_export(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, void* out, int64_t out_bytes,
                                       int64_t* out_written, kvc_error* err);
/* Makes new sequences from a snapshot, in the order of the export: all of them, or none and nothing has changed. out = NULL,
 * capacity = 0 checks the bytes and only gives their number in out_n, for which capacity must suffice. The caller destroys them.
 * KVC_E_CORRUPT: damaged. KVC_E_UNSUPPORTED: of a newer kvc. KVC_E_ARGUMENT: of a cache with another shape, codec, policy, rope or
 * spare_pages; the message names the first difference. KVC_E_NO_MEMORY: the arena has no room. */
KVC_API kvc_status kvc_snapshot_import(kvc_cache* cache, const void* data, int64_t data_bytes, kvc_seq* out, int64_t capacity,
                                       int64_t* out_n, kvc_error* err);
/* The same to and from a file, through host memory of its size. The file at path is replaced as a whole, after its new bytes have
 * reached the disk, or stays as it was, also in a crash, which can leave a file path.tmp.* behind. Only its owner can read it. */
KVC_API kvc_status kvc_snapshot_save(const kvc_cache* cache, const kvc_seq* seqs, int64_t n, const char* path, kvc_error* err);
KVC_API kvc_status kvc_snapshot_load(kvc_cache* cache, const char* path, kvc_seq* out, int64_t capacity, int64_t* out_n,
                                     kvc_error* err);

#ifdef __cplusplus
}
#endif
#endif /* KVC_H */

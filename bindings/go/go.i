/* Go: handles are uintptr, so that the collector never takes one for a pointer; errors are a status and a Kvc_error, as in C;
 * a slice stands for pointer and length, and its memory reaches C as it is: no copy and no allocation. An empty slice is NULL, but for
 * lists that C can do without (KVC_LIST): there only a nil one is.
 *
 * KVC_STATIC means nothing to C: Go's build cache looks at flags but not at what pkg-config is asked for, and would take the one library
 * for the other. */

%insert(cgo_comment_typedefs) %{
#cgo !kvc_static pkg-config: kvc
#cgo kvc_static pkg-config: kvc-static
#cgo kvc_static CFLAGS: -DKVC_STATIC
#cgo CFLAGS: -I${SRCDIR}/../.. -Wno-unused-function
%}

%define KVC_TEXT_TOO_LONG
(void)of;
_swig_gopanic(failure.message)
%enddef

%typemap(gotype) int32_t, const int32_t& "int32"
%typemap(gotype) uint32_t, const uint32_t& "uint32"

%typemap(gotype) kvc_cache*, const kvc_cache*, kvc_step*, kvc_graph*, void* "uintptr"

%define KVC_BUFFER(POINTER, LENGTH, GOTYPE, UNIT)
%typemap(gotype) (POINTER, LENGTH) "[]GOTYPE"
%typemap(in) (POINTER, LENGTH) %{ $1 = ($1_ltype)($input.len > 0 ? $input.array : NULL); $2 = (int64_t)$input.len * UNIT; %}
%enddef
KVC_BUFFER(const void* k, int64_t k_bytes, byte, 1)
KVC_BUFFER(const void* v, int64_t v_bytes, byte, 1)
KVC_BUFFER(const void* q, int64_t q_bytes, byte, 1)
KVC_BUFFER(void* out, int64_t out_bytes, byte, 1)
KVC_BUFFER(char* out, int64_t out_bytes, byte, 1)
KVC_BUFFER(uint8_t* out, int64_t out_bytes, byte, 1)
KVC_BUFFER(float* out, int64_t out_bytes, float32, 4)
KVC_BUFFER(float* out_lse, int64_t lse_bytes, float32, 4)
KVC_BUFFER(const double* frequencies, int64_t n, float64, 1)
KVC_BUFFER(const float* logits, int64_t n, float32, 1)
KVC_BUFFER(const int32_t* clusters, int64_t n_clusters, int32, 1)
KVC_BUFFER(int64_t* out, int64_t capacity, int64, 1)
KVC_BUFFER(const int64_t* positions, int64_t n, int64, 1)
KVC_BUFFER(const void* data, int64_t data_bytes, byte, 1)
KVC_BUFFER(const kvc_seq* seqs, int64_t n, int64, 1)
KVC_BUFFER(kvc_seq* out, int64_t capacity, int64, 1)
KVC_BUFFER(const int64_t* tokens, int64_t n, int64, 1)
KVC_BUFFER(const int64_t* counts, int64_t n, int64, 1)
KVC_BUFFER(const void* salt, int64_t salt_bytes, byte, 1)

/* NULL stands for "all", "no guard" or "by the policy", which nobody means who computed a list that came out empty. */
%define KVC_LIST(POINTER, LENGTH, GOTYPE)
%typemap(gotype) (POINTER, LENGTH) "[]GOTYPE"
%typemap(in) (POINTER, LENGTH) %{ $1 = ($1_ltype)$input.array; $2 = (int64_t)$input.len; %}
%enddef
KVC_LIST(const float* scores, int64_t n_scores, float32)
KVC_LIST(const int64_t* positions, int64_t n_positions, int64)
KVC_LIST(const int64_t* accepted, int64_t n, int64)

/* Sequences and token counts share one length: kvc_step_begin refuses slices of different lengths here, where both are known. */
%typemap(gotype) const kvc_seq* seqs "[]int64"
%typemap(in) const kvc_seq* seqs (intgo seqs_length) %{ $1 = (kvc_seq*)$input.array; seqs_length = $input.len; %}
%typemap(gotype) (const int64_t* token_counts, int64_t n) "[]int64"
%typemap(in) (const int64_t* token_counts, int64_t n) %{
  if ($input.len != seqs_length2) _swig_gopanic("kvc_step_begin: seqs and token_counts differ in length");
  $1 = (int64_t*)$input.array;
  $2 = $input.len;
%}

/* One number out: a pointer to a Go variable. */
%typemap(gotype) int64_t* out, int64_t* out_tokens, int64_t* out_written, int64_t* out_n "*int64"
%typemap(in) int64_t* out, int64_t* out_tokens, int64_t* out_written, int64_t* out_n %{ $1 = ($1_ltype)$input; %}

/* What Go's types cannot say: memory by its address, of a device or of C, which no slice may stand for; and how long a text may be,
 * so that a longer one is an error before it gets here. */
%inline %{
static int32_t kvc_append_at(kvc_step* step, int64_t layer, const void* k_address, int64_t k_bytes, const void* v_address,
                             int64_t v_bytes, kvc_error* err) {
  return kvc_append(step, layer, k_address, k_bytes, v_address, v_bytes, err);
}
static int32_t kvc_attend_at(kvc_step* step, int64_t layer, const void* q_address, int64_t q_bytes, void* out_address, int64_t out_bytes,
                             void* lse_address, int64_t lse_bytes, const kvc_attend_options* options, kvc_error* err) {
  return kvc_attend(step, layer, q_address, q_bytes, out_address, out_bytes, (float*)lse_address, lse_bytes, options, err);
}
static int64_t kvc_codec_capacity(void) { return sizeof(((kvc_options*)0)->codec) - 1; }
static int64_t kvc_target_capacity(void) { return sizeof(((kvc_options*)0)->target) - 1; }
static int64_t kvc_policy_capacity(void) { return sizeof(((kvc_options*)0)->policy) - 1; }
%}

/* C#: handles are SafeHandles; a failed call throws the KvcException of its status with the function's name and kvc's message; a
 * buffer is a pinned pointer and a length, so that arrays, spans and native memory all reach C as they are. Nothing here is public:
 * programs use the classes of the namespace Kvc. */

%pragma(csharp) imclassclassmodifiers="unsafe class"
%pragma(csharp) moduleclassmodifiers="unsafe class"
%typemap(csclassmodifiers) SWIGTYPE "class"
%typemap(csclassmodifiers) enum SWIGTYPE "enum"

/* Whatever is touched first, the library is looked for before the run time does so in its own way (NativeLoader.cs). A constant would
 * be read by an initializer, and mono looks for the library when it compiles that, not when it runs. */
%ignore KVC_ABI_VERSION;
%typemap(cscode) SWIGTYPE %{
  static $csclassname() { NativeLoader.Load(); }
%}
%pragma(csharp) modulecode=%{
  static kvc() { NativeLoader.Load(); }
%}

/* The C side calls back once per failed call, on the thread of that call; the exception is thrown after C has returned. */
%pragma(csharp) imclasscode=%{
  delegate void Failed(int status, string operation, string message);
  [global::System.Runtime.InteropServices.DllImport("$dllimport", EntryPoint="KvcOnFailure")]
  static extern void OnFailure(Failed failed);
  static readonly Failed failed =
      (status, operation, message) => SWIGPendingException.Set(global::Kvc.KvcException.Of(status, operation, message));

  internal static readonly string mismatch = Connect();

  static string Connect() {
    OnFailure(failed);
    string difference = kvc_abi_mismatch();
    if (difference != null) throw new global::System.DllNotFoundException(difference);
    return null;
  }
%}

%{
static void (SWIGSTDCALL* kvc_failed)(int status, const char* operation, const char* message);

/* What the finalizers of the SafeHandles call: no exception may leave them, and an ended handle is no fault. */
SWIGEXPORT void SWIGSTDCALL KvcReleaseCache(void* cache) { (void)kvc_destroy((kvc_cache*)cache, NULL); }
SWIGEXPORT void SWIGSTDCALL KvcReleaseStep(void* step) { (void)kvc_step_abort((kvc_step*)step, NULL); }
SWIGEXPORT void SWIGSTDCALL KvcReleaseGraph(void* graph) { (void)kvc_graph_destroy((kvc_graph*)graph, NULL); }
SWIGEXPORT void SWIGSTDCALL KvcReleaseSequence(void* cache, void* seq) { (void)kvc_seq_destroy((kvc_cache*)cache, (kvc_seq)(intptr_t)seq, NULL); }
SWIGEXPORT void SWIGSTDCALL KvcReleaseBuffer(void* cache, int kind, void* buffer) {
  (void)kvc_buffer_destroy((kvc_cache*)cache, kind, buffer, NULL);
}

SWIGEXPORT void SWIGSTDCALL KvcOnFailure(void (SWIGSTDCALL* failed)(int status, const char* operation, const char* message)) {
  kvc_failed = failed;
}

/* Where this library came from, which the loader alone knows for certain. Static for the process. */
SWIGEXPORT const char* SWIGSTDCALL KvcLoadedFrom(void) {
  Dl_info found;
  return dladdr((void*)(uintptr_t)KvcLoadedFrom, &found) ? found.dli_fname : "";
}
%}

%begin %{
#define _GNU_SOURCE   /* dladdr */
#include <dlfcn.h>
%}

%define KVC_TEXT_TOO_LONG
kvc_failed(failure.status, of, failure.message)
%enddef
%typemap(in, canthrow=1) char [ANY] %{ $1 = ($1_ltype)$input; %}
/* C would take a text up to its first NUL, and a cut codec string can be another codec. */
%typemap(csin) char [ANY] %{NativeText.Whole($csinput, "$1_name", GetType().Name)%}
%typemap(csin) const char* %{NativeText.Whole($csinput ?? throw new global::System.ArgumentNullException(nameof($csinput)), nameof($csinput))%}

/* The error never appears in C#. A function that returns a status but takes no error would not compile: nothing fails silently. */
%typemap(in, numinputs=0) kvc_error* err %{ kvc_error failure = {sizeof failure, KVC_OK, ""}; $1 = &failure; %}
%typemap(argout, canthrow=1) kvc_error* err %{ if (failure.status != KVC_OK) kvc_failed(failure.status, "$symname", failure.message); %}
%typemap(ctype) kvc_status "void"
%typemap(imtype) kvc_status "void"
%typemap(cstype) enum kvc_status "kvc_status"
%typemap(cstype) kvc_status "void"
%typemap(csout, excode=SWIGEXCODE) kvc_status {
    $imcall;$excode
  }
%typemap(out, canthrow=1) kvc_status %{ (void)$1; (void)failure; %}

%define KVC_HANDLE(TYPE, HANDLE)
%typemap(ctype) TYPE*, const TYPE* "void*"
%typemap(imtype) TYPE*, const TYPE* "HANDLE"
%typemap(cstype) TYPE*, const TYPE* "HANDLE"
%typemap(csin) TYPE*, const TYPE* "$csinput"
%typemap(csout, excode=SWIGEXCODE) TYPE*, const TYPE* {
    HANDLE ret = $imcall;$excode
    return ret;
  }
%typemap(in) TYPE*, const TYPE* %{ $1 = ($1_ltype)$input; %}
%typemap(out) TYPE*, const TYPE* %{ $result = (void*)$1; %}
%enddef
KVC_HANDLE(kvc_cache, CacheHandle)
KVC_HANDLE(kvc_step, StepHandle)

/* A sequence is a number in C; as a SafeHandle it cannot be destroyed by a finalizer while a call still uses it. */
%typemap(ctype) kvc_seq "void*"
%typemap(imtype) kvc_seq "SequenceHandle"
%typemap(cstype) kvc_seq "SequenceHandle"
%typemap(csin) kvc_seq "$csinput"
%typemap(csout, excode=SWIGEXCODE) kvc_seq {
    SequenceHandle ret = $imcall;$excode
    return ret;
  }
%typemap(in) kvc_seq %{ $1 = (kvc_seq)(intptr_t)$input; %}
%typemap(out) kvc_seq %{ $result = (void*)(intptr_t)$1; %}

%define KVC_POINTER(POINTER, CSTYPE)
%typemap(ctype) POINTER "void*"
%typemap(imtype) POINTER "CSTYPE"
%typemap(cstype) POINTER "CSTYPE"
%typemap(csin) POINTER "$csinput"
%typemap(csvarin, excode=SWIGEXCODE2) POINTER %{
    set {
      $imcall;$excode
    } %}
%typemap(csvarout, excode=SWIGEXCODE2) POINTER %{
    get {
      CSTYPE ret = $imcall;$excode
      return ret;
    } %}
%typemap(csout, excode=SWIGEXCODE) POINTER {
    CSTYPE ret = $imcall;$excode
    return ret;
  }
%typemap(in) POINTER %{ $1 = ($1_ltype)$input; %}
%typemap(out) POINTER %{ $result = (void*)$1; %}
%enddef
KVC_POINTER(void*, global::System.IntPtr)      /* arena_block */
KVC_POINTER(kvc_graph*, global::System.IntPtr)
KVC_POINTER(const void* k, void*)
KVC_POINTER(const void* v, void*)
KVC_POINTER(const void* q, void*)
KVC_POINTER(void* out, void*)
KVC_POINTER(char* out, byte*)
KVC_POINTER(uint8_t* out, byte*)
KVC_POINTER(float* out, float*)
KVC_POINTER(float* out_lse, float*)
KVC_POINTER(const double* frequencies, double*)
KVC_POINTER(const float* logits, float*)
KVC_POINTER(const float* scores, float*)
KVC_POINTER(const int32_t* clusters, int*)
KVC_POINTER(const int64_t* positions, long*)
KVC_POINTER(const int64_t* accepted, long*)
KVC_POINTER(const int64_t* token_counts, long*)
KVC_POINTER(const int64_t* tokens, long*)
KVC_POINTER(const int64_t* counts, long*)
KVC_POINTER(const void* salt, void*)
KVC_POINTER(const kvc_seq* seqs, long*)
KVC_POINTER(int64_t* out, long*)
KVC_POINTER(int64_t* out_tokens, long*)
KVC_POINTER(const void* data, void*)
KVC_POINTER(kvc_seq* out, long*)
KVC_POINTER(int64_t* out_written, long*)
KVC_POINTER(int64_t* out_n, long*)

/* Layers lie in a row in C. */
%inline %{
static void kvc_layers_set(kvc_layer* layers, int64_t index, const kvc_layer* from) { layers[index] = *from; }
%}

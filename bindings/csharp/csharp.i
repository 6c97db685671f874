/* C#: handles are SafeHandles; a failed call throws KvcException with status and message; a buffer is a pinned pointer and a
 * length, so that arrays, spans and native memory all reach C as they are. */

%pragma(csharp) imclassclassmodifiers="unsafe class"
%pragma(csharp) moduleclassmodifiers="public unsafe class"

/* The C side calls back once per failed call, on the thread of that call; the exception is thrown after C has returned. */
%pragma(csharp) imclasscode=%{
  delegate void Failed(int status, string message);
  [global::System.Runtime.InteropServices.DllImport("$dllimport", EntryPoint="KvcOnFailure")]
  static extern void OnFailure(Failed failed);
  static readonly Failed failed = (status, message) => SWIGPendingException.Set(new KvcException(status, message));

  internal static readonly string mismatch = Connect();

  static string Connect() {
    OnFailure(failed);
    string difference = kvc_abi_mismatch();
    if (difference != null) throw new global::System.DllNotFoundException(difference);
    return null;
  }
%}

%{
static void (SWIGSTDCALL* kvc_failed)(int status, const char* message);

/* What the finalizers of the SafeHandles call: no exception may leave them, and an ended handle is no fault. */
SWIGEXPORT void SWIGSTDCALL KvcReleaseCache(void* cache) { (void)kvc_destroy((kvc_cache*)cache, NULL); }
SWIGEXPORT void SWIGSTDCALL KvcReleaseStep(void* step) { (void)kvc_step_abort((kvc_step*)step, NULL); }

SWIGEXPORT void SWIGSTDCALL KvcOnFailure(void (SWIGSTDCALL* failed)(int status, const char* message)) { kvc_failed = failed; }
%}

%define KVC_TEXT_TOO_LONG
SWIG_CSharpSetPendingExceptionArgument(SWIG_CSharpArgumentOutOfRangeException, "kvc: text does not fit its field", "value")
%enddef
%typemap(in, canthrow=1) char [ANY] %{ $1 = ($1_ltype)$input; %}

/* The error never appears in C#. A function that returns a status but takes no error would not compile: nothing fails silently. */
%typemap(in, numinputs=0) kvc_error* err %{ kvc_error failure = {sizeof failure, KVC_OK, ""}; $1 = &failure; %}
%typemap(argout, canthrow=1) kvc_error* err %{ if (failure.status != KVC_OK) kvc_failed(failure.status, failure.message); %}
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
KVC_POINTER(const void* salt, void*)
KVC_POINTER(const kvc_seq* seqs, long*)
KVC_POINTER(int64_t* out, long*)
KVC_POINTER(int64_t* out_tokens, long*)
KVC_POINTER(const void* data, void*)
KVC_POINTER(kvc_seq* out, long*)
KVC_POINTER(int64_t* out_written, long*)
KVC_POINTER(int64_t* out_n, long*)

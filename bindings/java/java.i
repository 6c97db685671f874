/* Java: handles are long; a failed call throws the KvcException of its status; a direct buffer stands for pointer and
 * length (from its position to its limit), and its memory reaches C as it is. Structs are freed by a Cleaner, not by finalizers. */

%include <enums.swg>   /* Java enums, whose swigToEnum refuses an unknown value */
%javaconst(1);         /* values written by SWIG from kvc.h */

%pragma(java) jniclassclassmodifiers="class"
%pragma(java) jniclasscode=%{
  static {
    NativeLibrary.load();
    String mismatch = kvc.text(kvc_abi_mismatch());
    if (mismatch != null) throw new UnsatisfiedLinkError(mismatch);
  }
%}

/* What C would take without complaint, but read or write wrongly, is refused here, where the just-in-time compiler removes it. */
%pragma(java) moduleimports=%{
import kvc.KvcException;
%}
%pragma(java) modulecode=%{
  /** Frees what native memory belongs to objects that are gone. */
  public static final java.lang.ref.Cleaner CLEANER = java.lang.ref.Cleaner.create();

  /** The buffer, if its memory can reach C as it is. */
  public static <B extends java.nio.Buffer> B direct(String name, B buffer, java.nio.ByteOrder order, boolean written) {
    return direct(null, name, buffer, order, written);
  }

  /** The same for that function of kvc.h; null: the one of this class that called. */
  public static <B extends java.nio.Buffer> B direct(String operation, String name, B buffer, java.nio.ByteOrder order, boolean written) {
    if (buffer == null) return null;
    if (!buffer.isDirect()) throw refused(operation, name, "a direct buffer is needed");
    if (order != java.nio.ByteOrder.nativeOrder()) throw refused(operation, name, "a buffer in native byte order is needed: say .order(ByteOrder.nativeOrder()), after slice() and duplicate(), too");
    if (written && buffer.isReadOnly()) throw refused(operation, name, "a buffer that can be written is needed");
    return buffer;
  }

  /** Who called is asked only where something is wrong. */
  private static KvcException refused(String operation, String name, String why) {
    String function = operation != null ? operation : StackWalker.getInstance().walk(frames ->
        frames.map(StackWalker.StackFrame::getMethodName).filter(method -> method.startsWith("kvc_")).findFirst().orElse("kvc"));
    return KvcException.of(kvc_status.KVC_E_ARGUMENT.swigValue(), function, name + ": " + why);
  }

  /** Text in UTF-8 with a final NUL. What JNI makes of a String is of another kind, and no file's name beyond U+FFFF. */
  static java.nio.ByteBuffer utf8(String text) {
    if (text == null) return null;
    try {
      java.nio.ByteBuffer encoded = java.nio.charset.StandardCharsets.UTF_8.newEncoder().encode(java.nio.CharBuffer.wrap(text));
      return java.nio.ByteBuffer.allocateDirect(encoded.remaining() + 1).put(encoded);
    } catch (java.nio.charset.CharacterCodingException e) {
      return java.nio.ByteBuffer.allocateDirect(2).put((byte) 0xff); // which no UTF-8 has: C knows whose text it is, and refuses it
    }
  }

  /** The way back, from an array of bytes. */
  static String text(Object utf8) { return utf8 == null ? null : new String((byte[]) utf8, java.nio.charset.StandardCharsets.UTF_8); }

  /* A ByteBuffer's order counts where its bytes are numbers. */
  private static java.nio.ByteBuffer numbers(String name, java.nio.ByteBuffer b, boolean written) { return b == null ? null : direct(name, b, b.order(), written); }
  private static java.nio.ByteBuffer bytes(String name, java.nio.ByteBuffer b, boolean written) { return direct(name, b, java.nio.ByteOrder.nativeOrder(), written); }
  private static java.nio.FloatBuffer floats(String name, java.nio.FloatBuffer b, boolean written) { return b == null ? null : direct(name, b, b.order(), written); }
  private static java.nio.DoubleBuffer doubles(String name, java.nio.DoubleBuffer b) { return b == null ? null : direct(name, b, b.order(), false); }
  private static java.nio.LongBuffer longs(String name, java.nio.LongBuffer b, boolean written) { return b == null ? null : direct(name, b, b.order(), written); }
  private static java.nio.IntBuffer ints(String name, java.nio.IntBuffer b) { return b == null ? null : direct(name, b, b.order(), false); }
  private static java.nio.LongBuffer counts(java.nio.LongBuffer seqs, java.nio.LongBuffer counts) {
    int n = seqs == null ? 0 : seqs.remaining(), m = counts == null ? 0 : counts.remaining();
    if (seqs == null || counts == null || n != m) throw refused(null, "token_counts", m + " of them for " + n + " sequences");
    return longs("token_counts", counts, false);
  }
%}

/* The Cleaner hangs on the object that calls hand over to C, so that the memory outlives every call that uses it. */
%typemap(javabody) SWIGTYPE %{
  private final long swigCPtr;

  $javaclassname(long cPtr, boolean cMemoryOwn) {
    swigCPtr = cPtr;
    if (cMemoryOwn) kvc.CLEANER.register(this, () -> kvcJNI.delete_$javaclassname(cPtr));
  }

  /** Where the struct lies: for calls that do not go through JNI. */
  public static long getCPtr($javaclassname struct) { return struct == null ? 0 : struct.swigCPtr; }
%}
%typemap(javafinalize) SWIGTYPE ""
%typemap(javaclassmodifiers) SWIGTYPE "public final class"
%typemap(javadestruct, methodname="delete", methodmodifiers="private") SWIGTYPE ""

%{
static jmethodID kvc_buffer_position, kvc_buffer_remaining;
static jfieldID kvc_position_field, kvc_limit_field, kvc_address_field;

/* To call a method back takes some 80 ns, to read a field 2. The fields are the class library's own matter: where it has none of these
 * names, or they say something else, the methods are called. */
static int kvc_buffer_fields(JNIEnv* env, jclass buffer) {
  static char memory[16];
  const struct {
    jfieldID* id;
    const char *name, *type;
  } fields[] = {{&kvc_position_field, "position", "I"}, {&kvc_limit_field, "limit", "I"}, {&kvc_address_field, "address", "J"}};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; ++i) {
    *fields[i].id = (*env)->GetFieldID(env, buffer, fields[i].name, fields[i].type);
    if (!*fields[i].id) return (*env)->ExceptionClear(env), 0;
  }
  jobject probe = (*env)->NewDirectByteBuffer(env, memory, sizeof memory);
  if (!probe) return (*env)->ExceptionClear(env), 0;
  const int same = (*env)->GetLongField(env, probe, kvc_address_field) == (jlong)(intptr_t)memory &&
                   (*env)->GetIntField(env, probe, kvc_limit_field) == (jint)sizeof memory &&
                   (*env)->GetIntField(env, probe, kvc_position_field) == 0;
  (*env)->DeleteLocalRef(env, probe);
  return same;
}

static void kvc_throw(JNIEnv* env, const char* operation, const kvc_error* failure);

/* Memory of an Arena is freed by its owner's word, whoever has a buffer over it. So the Arena is held open, by what the class library has for
 * its own calls, from before a buffer's address is read until its call has returned. No call of kvc's is made inside another of its thread. */
static jfieldID kvc_segment_field;
static jmethodID kvc_session, kvc_acquire, kvc_release;
static jclass kvc_closed_type;
static int kvc_arenas; /* are there any in this Java? */
static __thread jobject kvc_held[4];
static __thread int kvc_held_count;

static int kvc_arena_methods(JNIEnv* env, jclass buffer) {
  kvc_segment_field = (*env)->GetFieldID(env, buffer, "segment", "Ljava/lang/foreign/MemorySegment;");
  kvc_session = kvc_segment_field ? (*env)->GetMethodID(env, buffer, "session", "()Ljdk/internal/foreign/MemorySessionImpl;") : NULL;
  jclass session = kvc_session ? (*env)->FindClass(env, "jdk/internal/foreign/MemorySessionImpl") : NULL;
  kvc_acquire = session ? (*env)->GetMethodID(env, session, "acquire0", "()V") : NULL;
  kvc_release = kvc_acquire ? (*env)->GetMethodID(env, session, "release0", "()V") : NULL;
  jclass closed = kvc_release ? (*env)->FindClass(env, "java/lang/IllegalStateException") : NULL;
  kvc_closed_type = closed ? (jclass)(*env)->NewGlobalRef(env, closed) : NULL;
  if (!kvc_closed_type) (*env)->ExceptionClear(env);
  return kvc_closed_type != NULL;
}

static void kvc_find_arenas(JNIEnv* env, jclass buffer) {
  jclass arena = (*env)->FindClass(env, "java/lang/foreign/Arena");
  kvc_arenas = arena != NULL;
  if (!arena) (*env)->ExceptionClear(env);
#ifdef KVC_BUFFER_METHODS
  (void)kvc_arena_methods;
#else
  if (kvc_arenas && kvc_arena_methods(env, buffer)) return;
#endif
  kvc_segment_field = NULL;
}

/* Before any exception is thrown: what is released is Java's. */
static void kvc_release_held(JNIEnv* env) {
  while (kvc_held_count > 0) {
    jobject session = kvc_held[--kvc_held_count];
    (*env)->CallVoidMethod(env, session, kvc_release);
    (void)(*env)->ExceptionCheck(env);
    (*env)->DeleteLocalRef(env, session);
  }
}

/* 0, and an exception is on its way. The direction of a copy is no part of the name in kvc.h. */
static int kvc_refuse_memory(JNIEnv* env, const char* function, const char* name, const char* why) {
  static const char copy[] = "kvc_buffer_copy";
  kvc_release_held(env);
  kvc_error failure = {sizeof failure, KVC_E_ARGUMENT, ""};
  snprintf(failure.message, sizeof failure.message, "%s: %s", strcmp(name, "out_lse") ? name : "lse", why);
  kvc_throw(env, strncmp(function, copy, sizeof copy - 1) ? function : copy, &failure);
  return 0;
}

static int kvc_hold_arena(JNIEnv* env, jobject buffer, const char* function, const char* name) {
  if (!kvc_arenas || !buffer) return 1;
  if (!kvc_segment_field) return kvc_refuse_memory(env, function, name, "this Java does not tell whether an Arena can free its memory");
  jobject segment = (*env)->GetObjectField(env, buffer, kvc_segment_field);
  if (!segment) return 1;
  (*env)->DeleteLocalRef(env, segment);
  jobject session = (*env)->CallObjectMethod(env, buffer, kvc_session);
  if (!(*env)->ExceptionCheck(env) && session) (*env)->CallVoidMethod(env, session, kvc_acquire);
  jthrowable failed = (*env)->ExceptionOccurred(env);
  if (!failed) return kvc_held[kvc_held_count++] = session, 1;
  (*env)->ExceptionClear(env);
  const int closed = (*env)->IsInstanceOf(env, failed, kvc_closed_type);
  return kvc_refuse_memory(env, function, name, closed ? "its Arena is closed" : "its Arena belongs to another thread");
}

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void* reserved) {
  JNIEnv* env = NULL;
  (void)reserved;
  if ((*vm)->GetEnv(vm, (void**)&env, JNI_VERSION_1_8) != JNI_OK) return JNI_ERR;
  jclass buffer = (*env)->FindClass(env, "java/nio/Buffer");
  if (!buffer) return JNI_ERR;
#ifdef KVC_BUFFER_METHODS /* for a test */
  (void)kvc_buffer_fields;
#else
  if (!kvc_buffer_fields(env, buffer)) kvc_address_field = NULL;
#endif
  kvc_find_arenas(env, buffer);
  kvc_buffer_position = (*env)->GetMethodID(env, buffer, "position", "()I");
  kvc_buffer_remaining = (*env)->GetMethodID(env, buffer, "remaining", "()I");
  return kvc_buffer_position && kvc_buffer_remaining ? JNI_VERSION_1_8 : JNI_ERR;
}

static void* kvc_buffer_address(JNIEnv* env, jobject buffer, int64_t element_bytes, int64_t* elements) {
  *elements = 0;
  if (!buffer) return NULL;
  if (kvc_address_field) {
    const int64_t from = (*env)->GetIntField(env, buffer, kvc_position_field);
    const int64_t remaining = (*env)->GetIntField(env, buffer, kvc_limit_field) - from;
    *elements = remaining > 0 ? remaining : 0; /* as the method: another thread may be setting them */
    return (char*)(intptr_t)(*env)->GetLongField(env, buffer, kvc_address_field) + from * element_bytes;
  }
  *elements = (*env)->CallIntMethod(env, buffer, kvc_buffer_remaining);
  (void)(*env)->ExceptionCheck(env); /* neither method throws, but -Xcheck:jni wants to see it asked */
  const int64_t position = (*env)->CallIntMethod(env, buffer, kvc_buffer_position);
  (void)(*env)->ExceptionCheck(env);
  return (char*)(*env)->GetDirectBufferAddress(env, buffer) + position * element_bytes;
}

static jbyteArray kvc_text(JNIEnv* env, const char* text) {
  const jsize n = text ? (jsize)strlen(text) : 0;
  jbyteArray bytes = text ? (*env)->NewByteArray(env, n) : NULL;
  if (bytes) (*env)->SetByteArrayRegion(env, bytes, 0, n, (const jbyte*)text);
  return bytes;
}

static void kvc_throw(JNIEnv* env, const char* operation, const kvc_error* failure) {
  jclass type = (*env)->FindClass(env, "kvc/KvcException");
  jmethodID make =
      type ? (*env)->GetStaticMethodID(env, type, "of", "(ILjava/lang/String;[B)Lkvc/KvcException;") : NULL;
  jstring function = make ? (*env)->NewStringUTF(env, operation) : NULL;
  jbyteArray message = function ? kvc_text(env, failure->message) : NULL;
  jobject exception = message ? (*env)->CallStaticObjectMethod(env, type, make, (jint)failure->status, function, message) : NULL;
  if ((*env)->ExceptionCheck(env)) return; /* the heap is full, which says more than the failure */
  if (exception) (*env)->Throw(env, (jthrowable)exception);
}

/* The text in a buffer of utf8(). 0, and an exception is on its way: C would read another text, up to a NUL that is not the last one. The
 * operation of kvc_options_codec_set is the struct. */
static int kvc_utf8(JNIEnv* env, jobject buffer, const char* function, const char* name, char** text) {
  *text = buffer ? (char*)(*env)->GetDirectBufferAddress(env, buffer) : NULL;
  if (!*text) return 1;
  const size_t bytes = (size_t)(*env)->GetDirectBufferCapacity(env, buffer) - 1, whole = strlen(*text);
  if (whole == bytes && !memchr(*text, 0xff, bytes)) return 1;
  kvc_error failure = {sizeof failure, KVC_E_ARGUMENT, ""};
  if (whole == bytes)
    snprintf(failure.message, sizeof failure.message, "%s: a text with half a surrogate pair", name);
  else
    snprintf(failure.message, sizeof failure.message, "%s: byte %zu is a NUL", name, whole);
  char operation[64];
  snprintf(operation, sizeof operation, "%s", function);
  char* const field = strstr(operation, name);
  if (field > operation && !strcmp(field + strlen(name), "_set")) field[-1] = 0;
  kvc_release_held(env);
  kvc_throw(env, operation, &failure);
  return 0;
}
%}

/* Text crosses as UTF-8: to C in a direct buffer, which leaves nothing to free where a call fails; from C as an array of bytes. */
%typemap(jni) char*, char[ANY] "jobject"
%typemap(jtype) char*, char[ANY] "Object"
%typemap(jstype) char*, char[ANY] "String"
%typemap(javain) char*, char[ANY] "kvc.utf8($javainput)"
%typemap(in) char*, char[ANY] %{ if (!kvc_utf8(jenv, $input, "$symname", "$1_name", &$1)) return $null; %}
%typemap(freearg) char*, char[ANY] ""
%typemap(argout) char*, char[ANY] ""
%typemap(out) char*, char[ANY] %{ $result = kvc_text(jenv, $1); %}
%typemap(javaout) char*, char[ANY] { return kvc.text($jnicall); }

%define KVC_TEXT_TOO_LONG
kvc_throw(jenv, of, &failure)
%enddef

/* The error never appears in Java. A function that returns a status but takes no error would not compile: nothing fails silently. */
%define KVC_ERROR(NAME, OPERATION)
%typemap(in, numinputs=0) kvc_error* NAME %{ kvc_error failure = {sizeof failure, KVC_OK, ""}; $1 = &failure; %}
%typemap(argout) kvc_error* NAME %{
  kvc_release_held(jenv);
  if (failure.status != KVC_OK) { kvc_throw(jenv, OPERATION, &failure); return $null; }
%}
%enddef
KVC_ERROR(err, "$symname")
KVC_ERROR(append_err, "kvc_append")
KVC_ERROR(attend_err, "kvc_attend")
KVC_ERROR(copy_err, "kvc_buffer_copy")
%typemap(jni) kvc_status "void"
%typemap(jstype) enum kvc_status "kvc_status"
%typemap(jtype) kvc_status "void"
%typemap(jstype) kvc_status "void"
%typemap(javaout) kvc_status { $jnicall; }
%typemap(out) kvc_status %{ (void)$1; (void)failure; %}

%define KVC_HANDLE(TYPE)
%typemap(jni) TYPE*, const TYPE* "jlong"
%typemap(jtype) TYPE*, const TYPE* "long"
%typemap(jstype) TYPE*, const TYPE* "long"
%typemap(javain) TYPE*, const TYPE* "$javainput"
%typemap(javaout) TYPE*, const TYPE* { return $jnicall; }
%typemap(in) TYPE*, const TYPE* %{ $1 = ($1_ltype)(intptr_t)$input; %}
%typemap(out) TYPE*, const TYPE* %{ $result = (jlong)(intptr_t)$1; %}
%enddef
KVC_HANDLE(kvc_cache)
KVC_HANDLE(kvc_step)
KVC_HANDLE(kvc_graph)
KVC_HANDLE(void)

%define KVC_BUFFER(POINTER, LENGTH, JAVATYPE, CHECK, ELEMENT, UNIT)
%typemap(jni) (POINTER, LENGTH) "jobject"
%typemap(jtype) (POINTER, LENGTH) "java.nio.JAVATYPE"
%typemap(jstype) (POINTER, LENGTH) "java.nio.JAVATYPE"
%typemap(javain) (POINTER, LENGTH) %{CHECK%}
%typemap(in) (POINTER, LENGTH) (int64_t elements) %{
  if (!kvc_hold_arena(jenv, $input, "$symname", "$1_name")) return $null;
  $1 = ($1_ltype)kvc_buffer_address(jenv, $input, ELEMENT, &elements);
  $2 = elements * UNIT;
%}
%typemap(freearg) (POINTER, LENGTH) "kvc_release_held(jenv);"
%typemap(argout) (POINTER, LENGTH) ""
%enddef
KVC_BUFFER(const void* k, int64_t k_bytes, ByteBuffer, numbers("$1_name", $javainput, false), 1, 1)
KVC_BUFFER(const void* v, int64_t v_bytes, ByteBuffer, numbers("$1_name", $javainput, false), 1, 1)
KVC_BUFFER(const void* q, int64_t q_bytes, ByteBuffer, numbers("$1_name", $javainput, false), 1, 1)
KVC_BUFFER(void* out, int64_t out_bytes, ByteBuffer, numbers("$1_name", $javainput, true), 1, 1)
KVC_BUFFER(const void* from, int64_t from_bytes, ByteBuffer, numbers("$1_name", $javainput, false), 1, 1)
KVC_BUFFER(void* to, int64_t to_bytes, ByteBuffer, numbers("$1_name", $javainput, true), 1, 1)
KVC_BUFFER(char* out, int64_t out_bytes, ByteBuffer, bytes("$1_name", $javainput, true), 1, 1)
KVC_BUFFER(uint8_t* out, int64_t out_bytes, ByteBuffer, bytes("$1_name", $javainput, true), 1, 1)
KVC_BUFFER(float* out, int64_t out_bytes, FloatBuffer, floats("$1_name", $javainput, true), 4, 4)
KVC_BUFFER(float* out_lse, int64_t lse_bytes, FloatBuffer, floats("lse", $javainput, true), 4, 4)
KVC_BUFFER(const double* frequencies, int64_t n, DoubleBuffer, doubles("$1_name", $javainput), 8, 1)
KVC_BUFFER(const float* logits, int64_t n, FloatBuffer, floats("$1_name", $javainput, false), 4, 1)
KVC_BUFFER(const float* scores, int64_t n_scores, FloatBuffer, floats("$1_name", $javainput, false), 4, 1)
KVC_BUFFER(const int32_t* clusters, int64_t n_clusters, IntBuffer, ints("$1_name", $javainput), 4, 1)
KVC_BUFFER(int64_t* out, int64_t capacity, LongBuffer, longs("$1_name", $javainput, true), 8, 1)
KVC_BUFFER(const int64_t* positions, int64_t n_positions, LongBuffer, longs("$1_name", $javainput, false), 8, 1)
KVC_BUFFER(const int64_t* positions, int64_t n, LongBuffer, longs("$1_name", $javainput, false), 8, 1)
KVC_BUFFER(const int64_t* accepted, int64_t n, LongBuffer, longs("$1_name", $javainput, false), 8, 1)
KVC_BUFFER(const void* data, int64_t data_bytes, ByteBuffer, bytes("$1_name", $javainput, false), 1, 1)
KVC_BUFFER(const kvc_seq* seqs, int64_t n, LongBuffer, longs("$1_name", $javainput, false), 8, 1)
KVC_BUFFER(kvc_seq* out, int64_t capacity, LongBuffer, longs("$1_name", $javainput, true), 8, 1)
KVC_BUFFER(const int64_t* tokens, int64_t n, LongBuffer, longs("$1_name", $javainput, false), 8, 1)
KVC_BUFFER(const int64_t* counts, int64_t n, LongBuffer, longs("$1_name", $javainput, false), 8, 1)
KVC_BUFFER(const void* salt, int64_t salt_bytes, ByteBuffer, bytes("$1_name", $javainput, false), 1, 1)
KVC_BUFFER(const int64_t* token_counts, int64_t n, LongBuffer, counts(seqs, $javainput), 8, 1)

/* Sequences and token counts share one length; counts() compares them. */
%typemap(jni) const kvc_seq* seqs "jobject"
%typemap(jtype) const kvc_seq* seqs "java.nio.LongBuffer"
%typemap(jstype) const kvc_seq* seqs "java.nio.LongBuffer"
%typemap(javain) const kvc_seq* seqs %{longs("seqs", $javainput, false)%}
%typemap(in) const kvc_seq* seqs (int64_t elements) %{
  if (!kvc_hold_arena(jenv, $input, "$symname", "$1_name")) return $null;
  $1 = ($1_ltype)kvc_buffer_address(jenv, $input, 8, &elements);
%}

/* One number out: the first element of a long[]. */
%include <typemaps.i>
%apply long long* OUTPUT { int64_t* out, int64_t* out_tokens, int64_t* out_written, int64_t* out_n };

%typemap(in, numinputs=0) JNIEnv* jenv "$1 = jenv;"

/* What FFM calls: the functions that this bridge calls, too. To look them up by name could find those of another libkvc, where one is preloaded. */
%inline %{
static int64_t kvc_append_function(void) { return (int64_t)(intptr_t)&kvc_append; }
static int64_t kvc_attend_function(void) { return (int64_t)(intptr_t)&kvc_attend; }
%}

/* Addresses instead of buffers: memory of a device, and of the host where no ByteBuffer stands for it. */
%inline %{
static kvc_status kvc_append_at(kvc_step* step, int64_t layer, const void* k_address, int64_t k_length, const void* v_address,
                                int64_t v_length, kvc_error* append_err) {
  return kvc_append(step, layer, k_address, k_length, v_address, v_length, append_err);
}
static kvc_status kvc_attend_at(kvc_step* step, int64_t layer, const void* q_address, int64_t q_length, void* out_address,
                                int64_t out_length, void* lse_address, int64_t lse_length, const kvc_attend_options* options,
                                kvc_error* attend_err) {
  return kvc_attend(step, layer, q_address, q_length, out_address, out_length, (float*)lse_address, lse_length, options, attend_err);
}
static kvc_status kvc_buffer_copy_from(kvc_cache* cache, void* to_address, int32_t to_device, const void* from, int64_t from_bytes,
                                       kvc_error* copy_err) {
  return kvc_buffer_copy(cache, to_address, to_device, from, KVC_CPU, from_bytes, copy_err);
}
static kvc_status kvc_buffer_copy_to(kvc_cache* cache, void* to, int64_t to_bytes, const void* from_address, int32_t from_device,
                                     kvc_error* copy_err) {
  return kvc_buffer_copy(cache, to, KVC_CPU, from_address, from_device, to_bytes, copy_err);
}
/* Holds the Arena of a buffer, if it has one, until it is let go; 0: nothing is to be held. */
static int64_t kvc_hold(JNIEnv* jenv, jobject arena_block) {
  if (!kvc_hold_arena(jenv, arena_block, "kvc_options", "arena_block") || kvc_held_count == 0) return 0;
  jobject held = (*jenv)->NewGlobalRef(jenv, kvc_held[0]);
  if (held) kvc_held_count = 0; else kvc_release_held(jenv); /* the heap is full, and says so */
  return (int64_t)(intptr_t)held;
}
static void kvc_let_go(JNIEnv* jenv, int64_t held) {
  if (!held) return;
  (*jenv)->CallVoidMethod(jenv, (jobject)(intptr_t)held, kvc_release);
  (void)(*jenv)->ExceptionCheck(jenv);
  (*jenv)->DeleteGlobalRef(jenv, (jobject)(intptr_t)held);
}
/* Where the buffer's memory lies, from its position on. */
static void* kvc_address_of(const void* data, int64_t data_bytes) {
  (void)data_bytes;
  return (void*)data;
}
static void kvc_layers_set(kvc_layer* layers, int64_t index, const kvc_layer* layer) { layers[index] = *layer; }
%}

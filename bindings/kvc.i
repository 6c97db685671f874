/* The raw layers of Go, Java and C#: kvc.h through SWIG 4.5.1 (bindings/generate writes them, bindings/README.md explains them).
 *
 * What is the same in all three:
 *   handles   kvc_cache*, kvc_step* and kvc_graph* are numbers of one machine word, never memory.
 *   structs   objects with getters and setters; made ready by kvc_<struct>_init, struct_size set and read-only.
 *   texts     one that does not fit its field is refused, never cut.
 *   numbers   int64_t is 64 bits, also as an array's length.
 * What differs, in <language>/<language>.i: errors, and how a caller's buffer reaches C without a copy. */
%module kvc

%{
#include <kvc.h>
#include "abi_check.h"
%}

/* Not <stdint.i>: its int64_t is a long long or, with SWIGWORDSIZE64, a long; C takes pointers to the first for pointers to another
 * type on Linux, and SWIG takes the second for 32 bits in Java and C#. So the names stay what they are, of the right width. */
%apply unsigned char { uint8_t };
%apply int { int32_t };
%apply unsigned int { uint32_t };
%apply long long { int64_t };

#define __attribute__(x)   /* KVC_API becomes empty */
%ignore KVC_API;
%rename("$ignore", regexmatch$name="_MAX_$") "";   /* only there to give C enums 32 bits */
%rename("$ignore", regexmatch$name="_init$") "";   /* called by the constructors below */
%ignore kvc_options::allocate;                     /* no callbacks into managed code */
%ignore kvc_options::release;
%ignore kvc_options::allocator_context;
%immutable struct_size;

#if defined(SWIGGO)
%include "go/go.i"
#elif defined(SWIGJAVA)
%include "java/java.i"
#elif defined(SWIGCSHARP)
%include "csharp/csharp.i"
#else
#error kvc.i: no typemaps for this language
#endif

/* SWIG's own typemap cuts a long text, so that "k=int4,v=int2..." could become another codec. */
%typemap(memberin) char [ANY] {
  const char* text = $input ? $input : "";
  if (strlen(text) < $1_dim0) {
    memset($1, 0, $1_dim0);
    memcpy($1, text, strlen(text));
  } else {
    char of[] = "$symname"; /* kvc_options_codec_set: the operation is the struct, the message says the field */
    kvc_error failure = {sizeof failure, KVC_E_ARGUMENT, ""};
    snprintf(failure.message, sizeof failure.message, "%s: a text of %zu bytes (at most %d)", "$1_name", strlen(text), $1_dim0 - 1);
    of[sizeof of - sizeof "_$1_name_set"] = 0;
    KVC_TEXT_TOO_LONG;
  }
}

%include "kvc.h"

%define KVC_INITIALIZED(STRUCT)
%extend STRUCT {
  STRUCT() {
    STRUCT* made = (STRUCT*)calloc(1, sizeof(STRUCT));
    if (made && STRUCT##_init(made, sizeof(STRUCT)) != KVC_OK) {
      free(made);
      made = NULL;
    }
    return made;
  }
}
%enddef

%define KVC_SIZED(STRUCT)
%extend STRUCT {
  STRUCT() {
    STRUCT* made = (STRUCT*)calloc(1, sizeof(STRUCT));
    if (made) made->struct_size = sizeof(STRUCT);
    return made;
  }
}
%enddef

KVC_INITIALIZED(kvc_options)
KVC_INITIALIZED(kvc_layer)
KVC_INITIALIZED(kvc_plan_request)
KVC_INITIALIZED(kvc_seq_options)
KVC_INITIALIZED(kvc_step_options)
KVC_INITIALIZED(kvc_attend_options)
KVC_INITIALIZED(kvc_evict_options)
KVC_INITIALIZED(kvc_step_down_options)
KVC_INITIALIZED(kvc_prefix_options)
KVC_INITIALIZED(kvc_merge_options)
KVC_SIZED(kvc_error)
KVC_SIZED(kvc_plan)
KVC_SIZED(kvc_evict_report)
KVC_SIZED(kvc_step_down_report)
KVC_SIZED(kvc_stats)
KVC_SIZED(kvc_seq_stats)
KVC_SIZED(kvc_prefix_hit)
KVC_SIZED(kvc_prefix_stats)

/* kvc_create and its kin take n layers in a row; index must lie in 0 .. n - 1. */
%inline %{
static kvc_layer* kvc_layers_new(int64_t n) {
  kvc_layer* layers = (kvc_layer*)calloc((size_t)n, sizeof(kvc_layer));
  for (int64_t i = 0; layers && i < n; ++i) kvc_layer_init(&layers[i], sizeof(kvc_layer));
  return layers;
}
static kvc_layer* kvc_layers_at(kvc_layer* layers, int64_t index) { return layers + index; }
static void kvc_layers_delete(kvc_layer* layers) { free(layers); }
%}

/* Empty or NULL if the loaded library is the one that kvc.h describes; otherwise what differs (abi_check.h). */
%newobject kvc_abi_mismatch;
char* kvc_abi_mismatch(void);

/* smollm.h for Model.java. Buffers that are computed on are direct and read from their first byte; texts and tokens come as arrays. */
#include "Model.h" /* written by javac: the signatures agree, or this does not compile */

#include <jni.h>
#include <stddef.h>

#include "smollm.h"

/* A handle is a pointer in a number of Java. */
static smollm* of(jlong handle) { return (smollm*)handle; }

static void* at(JNIEnv* env, jobject buffer) { return (*env)->GetDirectBufferAddress(env, buffer); }

/* folder: UTF-8 that ends with a NUL. Throws, and says why, if it holds no model. */
JNIEXPORT jlong JNICALL Java_Model_open(JNIEnv* env, jclass type, jbyteArray folder, jlong threads) {
    char message[256] = {0};
    jbyte* path = (*env)->GetByteArrayElements(env, folder, NULL);
    if (path == NULL) return 0; /* an exception is under way */
    smollm* model = smollm_open((const char*)path, threads, message, sizeof message);
    (*env)->ReleaseByteArrayElements(env, folder, path, JNI_ABORT);
    if (model == NULL) {
        jclass thrown = (*env)->FindClass(env, "java/io/IOException");
        if (thrown != NULL) (*env)->ThrowNew(env, thrown, message);
    }
    return (jlong)model;
}

JNIEXPORT void JNICALL Java_Model_close(JNIEnv* env, jclass type, jlong handle) { smollm_close(of(handle)); }

/* In the order of Model's fields. */
JNIEXPORT void JNICALL Java_Model_shape(JNIEnv* env, jclass type, jlong handle, jlongArray out) {
    smollm_shape shape;
    smollm_shape_get(of(handle), &shape);
    const jlong values[] = {shape.layers,   shape.width,          shape.q_heads,      shape.kv_heads,
                            shape.head_dim, shape.context_tokens, shape.prompt_bytes, shape.end_token};
    (*env)->SetLongArrayRegion(env, out, 0, sizeof values / sizeof *values, values);
}

JNIEXPORT jlong JNICALL Java_Model_encode(JNIEnv* env, jclass type, jlong handle, jbyteArray text, jlongArray out) {
    jlong count = -1;
    jbyte* bytes = (*env)->GetByteArrayElements(env, text, NULL);
    jlong* tokens = (*env)->GetLongArrayElements(env, out, NULL);
    if (bytes != NULL && tokens != NULL)
        count = smollm_encode(of(handle), (const char*)bytes, (*env)->GetArrayLength(env, text), (int64_t*)tokens,
                              (*env)->GetArrayLength(env, out));
    if (tokens != NULL) (*env)->ReleaseLongArrayElements(env, out, tokens, 0);
    if (bytes != NULL) (*env)->ReleaseByteArrayElements(env, text, bytes, JNI_ABORT);
    return count;
}

JNIEXPORT jlong JNICALL Java_Model_text(JNIEnv* env, jclass type, jlong handle, jlong token, jbyteArray pending, jbyteArray out) {
    char text[SMOLLM_TEXT_BYTES];
    uint8_t held[8];
    (*env)->GetByteArrayRegion(env, pending, 0, sizeof held, (jbyte*)held);
    int64_t n = smollm_text(of(handle), token, held, text, sizeof text);
    (*env)->SetByteArrayRegion(env, pending, 0, sizeof held, (const jbyte*)held);
    if (n > 0) (*env)->SetByteArrayRegion(env, out, 0, (jsize)n, (const jbyte*)text);
    return n;
}

JNIEXPORT jlong JNICALL Java_Model_textBytes(JNIEnv* env, jclass type) { return SMOLLM_TEXT_BYTES; }

JNIEXPORT jlong JNICALL Java_Model_embed(JNIEnv* env, jclass type, jlong handle, jobject tokens, jlong n, jobject x) {
    return smollm_embed(of(handle), at(env, tokens), n, at(env, x));
}

JNIEXPORT jlong JNICALL Java_Model_project(JNIEnv* env, jclass type, jlong handle, jlong layer, jobject x, jobject positions, jlong n,
                                           jobject q, jobject k, jobject v) {
    return smollm_project(of(handle), layer, at(env, x), at(env, positions), n, at(env, q), at(env, k), at(env, v));
}

JNIEXPORT jlong JNICALL Java_Model_mix(JNIEnv* env, jclass type, jlong handle, jlong layer, jobject x, jobject attended, jlong n) {
    return smollm_mix(of(handle), layer, at(env, x), at(env, attended), n);
}

JNIEXPORT jlong JNICALL Java_Model_choose(JNIEnv* env, jclass type, jlong handle, jobject x, jobject rows, jlong n, jobject out) {
    return smollm_choose(of(handle), at(env, x), at(env, rows), n, at(env, out));
}

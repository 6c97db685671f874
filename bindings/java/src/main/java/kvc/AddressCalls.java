package kvc;

import kvc.raw.kvc_attend_options;

/**
 * Append and attend of memory by its address: through the function and memory API (FFM) of Java 22 and newer, or through JNI. The property
 * {@code kvc.calls} = jni or ffm forces one. A ByteBuffer always goes through JNI, which alone can hold the Arena of a buffer without an object a call.
 */
abstract class AddressCalls {
  static final AddressCalls CALLS = choose(System.getProperty("kvc.calls", "auto"));

  abstract String name();

  abstract void append(long step, long layer, long k, long kBytes, long v, long vBytes);

  abstract void attend(long step, long layer, long q, long qBytes, long out, long outBytes, long lse, long lseBytes,
      kvc_attend_options options);

  private static AddressCalls choose(String asked) {
    boolean known = asked.equals("auto") || asked.equals("jni") || asked.equals("ffm");
    if (!known) throw new IllegalArgumentException("kvc: property kvc.calls is " + asked + "; it can be auto, jni or ffm");
    if (asked.equals("jni") || asked.equals("auto") && Runtime.version().feature() < 22) return new JniCalls();
    try {
      return (AddressCalls) Class.forName("kvc.FfmCalls").getDeclaredConstructor().newInstance();
    } catch (ClassNotFoundException e) {
      if (asked.equals("auto")) return new JniCalls(); // the jar was built without a JDK 22
      throw new UnsupportedOperationException("kvc: this jar was built without FFM", e);
    } catch (ReflectiveOperationException | LinkageError e) {
      throw new UnsupportedOperationException("kvc: FFM does not work here: " + e + "; kvc.calls=jni does without", e);
    }
  }
}

package kvc;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.charset.StandardCharsets;

/** Makes the buffers that kvc takes: direct and in native order. */
public final class Direct {
  private static final ThreadLocal<LongBuffer> SCRATCH = new ThreadLocal<>();

  private Direct() {}

  public static ByteBuffer bytes(long n) {
    if (n < 0 || n > Integer.MAX_VALUE) throw new IllegalArgumentException("kvc: a ByteBuffer of " + n + " bytes cannot be");
    return ByteBuffer.allocateDirect((int) n).order(ByteOrder.nativeOrder());
  }

  /** Of so many elements; what is no number of them is no number of bytes. */
  private static ByteBuffer elements(long n, int bytes) { return bytes(n < 0 || n > Integer.MAX_VALUE ? n : n * bytes); }

  public static FloatBuffer floats(long n) { return elements(n, 4).asFloatBuffer(); }

  public static LongBuffer longs(long n) { return elements(n, 8).asLongBuffer(); }

  public static FloatBuffer of(float... values) { return floats(values.length).put(values).flip(); }

  public static LongBuffer of(long... values) { return longs(values.length).put(values).flip(); }

  public static DoubleBuffer of(double... values) { return bytes(8L * values.length).asDoubleBuffer().put(values).flip(); }

  public static IntBuffer of(int... values) { return bytes(4L * values.length).asIntBuffer().put(values).flip(); }

  public static ByteBuffer of(byte... values) { return bytes(values.length).put(values).flip(); }

  /** UTF-8, such as the salt of a tenant. */
  public static ByteBuffer of(String text) { return of(text.getBytes(StandardCharsets.UTF_8)); }

  /** Room of this thread for the few numbers that describe a step. */
  static LongBuffer scratch(int n) {
    LongBuffer room = SCRATCH.get();
    if (room == null || room.capacity() < n) SCRATCH.set(room = longs(Math.max(n, 64)));
    return room;
  }
}

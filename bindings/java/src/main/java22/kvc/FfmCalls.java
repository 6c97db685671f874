package kvc;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static kvc.raw.kvc.direct;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import kvc.raw.kvc;
import kvc.raw.kvc_attend_options;
import kvc.raw.kvc_error;

/**
 * Append, attend and commit through FFM. What they take is numbers and addresses alone: structs are made and read by the raw layer, so
 * that no layout is written here.
 */
final class FfmCalls extends HotCalls {
  private static final ThreadLocal<kvc_error> ERROR = ThreadLocal.withInitial(kvc_error::new);
  private static final MethodHandle APPEND, ATTEND, COMMIT;

  static {
    kvc.kvc_abi_version(); // loads the library, whose ABI the raw layer compares
    // Status, then step and layer, then the buffers with their lengths, the options if there are any, and the error.
    APPEND = function("kvc_append", JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG);
    ATTEND = function("kvc_attend", JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_LONG);
    COMMIT = function("kvc_step_commit", JAVA_LONG, ADDRESS, JAVA_LONG, JAVA_LONG);
  }

  @SuppressWarnings("restricted")
  private static MethodHandle function(String name, MemoryLayout... arguments) {
    MemorySegment address = SymbolLookup.loaderLookup().find(name).orElseThrow(() -> new UnsatisfiedLinkError("kvc: no " + name));
    return Linker.nativeLinker().downcallHandle(address, FunctionDescriptor.of(JAVA_INT, arguments));
  }

  @Override
  String name() { return "ffm"; }

  @Override
  void append(long step, long layer, ByteBuffer k, ByteBuffer v) { append(step, layer, input(k), input(v)); }

  @Override
  void append(long step, long layer, long k, long kBytes, long v, long vBytes) {
    append(step, layer, MemorySegment.ofAddress(k), kBytes, MemorySegment.ofAddress(v), vBytes);
  }

  static void append(long step, long layer, MemorySegment k, MemorySegment v) { append(step, layer, k, k.byteSize(), v, v.byteSize()); }

  private static void append(long step, long layer, MemorySegment k, long kBytes, MemorySegment v, long vBytes) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = (int) APPEND.invokeExact(step, layer, k, kBytes, v, vBytes, kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    }
    check(status, "kvc_append", error);
  }

  @Override
  void attend(long step, long layer, ByteBuffer q, ByteBuffer out, FloatBuffer lse, kvc_attend_options options) {
    attend(step, layer, input(q), output(out, ByteOrder.nativeOrder()), lse == null ? MemorySegment.NULL : floats(lse), options);
  }

  @Override
  void attend(long step, long layer, long q, long qBytes, long out, long outBytes, long lse, long lseBytes, kvc_attend_options options) {
    attend(step, layer, MemorySegment.ofAddress(q), qBytes, MemorySegment.ofAddress(out), outBytes, MemorySegment.ofAddress(lse), lseBytes, options);
  }

  static void attend(long step, long layer, MemorySegment q, MemorySegment out, MemorySegment lse, kvc_attend_options options) {
    attend(step, layer, q, q.byteSize(), out, out.byteSize(), lse, lse.byteSize(), options);
  }

  private static void attend(long step, long layer, MemorySegment q, long qBytes, MemorySegment out, long outBytes, MemorySegment lse,
      long lseBytes, kvc_attend_options options) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = (int) ATTEND.invokeExact(step, layer, q, qBytes, out, outBytes, lse, lseBytes, kvc_attend_options.getCPtr(options),
          kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    } finally {
      Reference.reachabilityFence(options);
    }
    check(status, "kvc_attend", error);
  }

  @Override
  void commit(long step, LongBuffer accepted) {
    kvc_error error = ERROR.get();
    MemorySegment counts = accepted == null ? MemorySegment.NULL : MemorySegment.ofBuffer(direct(accepted, accepted.order(), false));
    int status;
    try {
      status = (int) COMMIT.invokeExact(step, counts, counts.byteSize() / 8, kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    }
    check(status, "kvc_step_commit", error);
  }

  private static MemorySegment input(ByteBuffer buffer) {
    return buffer == null ? MemorySegment.NULL : MemorySegment.ofBuffer(direct(buffer, ByteOrder.nativeOrder(), false));
  }

  private static MemorySegment output(ByteBuffer buffer, ByteOrder order) {
    return buffer == null ? MemorySegment.NULL : MemorySegment.ofBuffer(direct(buffer, order, true));
  }

  private static MemorySegment floats(FloatBuffer buffer) { return MemorySegment.ofBuffer(direct(buffer, buffer.order(), true)); }

  private static void check(int status, String operation, kvc_error error) {
    if (status != 0) throw KvcException.of(status, operation, error.getMessage());
    Reference.reachabilityFence(error);
  }

  /** A segment that is closed, on the heap or of another thread is refused by the linker, unchecked. */
  private static RuntimeException unchecked(Throwable e) {
    if (e instanceof RuntimeException refused) return refused;
    if (e instanceof Error failed) throw failed;
    return new IllegalStateException(e);
  }
}

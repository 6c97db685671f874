package kvc;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.lang.ref.Reference;
import kvc.raw.kvc;
import kvc.raw.kvc_attend_options;
import kvc.raw.kvc_error;

/**
 * Append and attend through FFM, of addresses and of segments. What they take is numbers and addresses alone: structs are made and read by the
 * raw layer, so that no layout is written here.
 */
final class FfmCalls extends AddressCalls {
  private static final ThreadLocal<kvc_error> ERROR = ThreadLocal.withInitial(kvc_error::new);
  private static final MethodHandle APPEND, ATTEND; // memory as segments, which the linker holds during the call
  private static final MethodHandle APPEND_AT, ATTEND_AT; // memory as addresses

  static {
    APPEND = append(ADDRESS);
    APPEND_AT = append(JAVA_LONG);
    ATTEND = attend(ADDRESS);
    ATTEND_AT = attend(JAVA_LONG);
  }

  /** Step and layer, then the buffers with their lengths, the options if there are any, and the error. */
  private static MethodHandle append(MemoryLayout memory) {
    return function(kvc.kvc_append_function(), JAVA_LONG, JAVA_LONG, memory, JAVA_LONG, memory, JAVA_LONG, JAVA_LONG);
  }

  private static MethodHandle attend(MemoryLayout memory) {
    return function(kvc.kvc_attend_function(), JAVA_LONG, JAVA_LONG, memory, JAVA_LONG, memory, JAVA_LONG, memory, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  }

  @SuppressWarnings("restricted")
  private static MethodHandle function(long address, MemoryLayout... arguments) {
    return Linker.nativeLinker().downcallHandle(MemorySegment.ofAddress(address), FunctionDescriptor.of(JAVA_INT, arguments));
  }

  @Override
  String name() { return "ffm"; }

  @Override
  void append(long step, long layer, long k, long kBytes, long v, long vBytes) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = (int) APPEND_AT.invokeExact(step, layer, k, kBytes, v, vBytes, kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    }
    check(status, "kvc_append", error);
  }

  static void append(long step, long layer, MemorySegment k, MemorySegment v) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = (int) APPEND.invokeExact(step, layer, k, k.byteSize(), v, v.byteSize(), kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    }
    check(status, "kvc_append", error);
  }

  @Override
  void attend(long step, long layer, long q, long qBytes, long out, long outBytes, long lse, long lseBytes, kvc_attend_options options) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = (int) ATTEND_AT.invokeExact(step, layer, q, qBytes, out, outBytes, lse, lseBytes, kvc_attend_options.getCPtr(options),
          kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    } finally {
      Reference.reachabilityFence(options);
    }
    check(status, "kvc_attend", error);
  }

  static void attend(long step, long layer, MemorySegment q, MemorySegment out, MemorySegment lse, kvc_attend_options options) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = (int) ATTEND.invokeExact(step, layer, q, q.byteSize(), out, out.byteSize(), lse, lse.byteSize(),
          kvc_attend_options.getCPtr(options), kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    } finally {
      Reference.reachabilityFence(options);
    }
    check(status, "kvc_attend", error);
  }

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

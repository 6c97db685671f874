package kvc;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static kvc.raw.kvc.direct;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.ref.Reference;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.List;
import kvc.raw.kvc;
import kvc.raw.kvc_attend_options;
import kvc.raw.kvc_error;

/**
 * Append, attend and commit through FFM. What they take is numbers and addresses alone: structs are made and read by the raw layer, so
 * that no layout is written here.
 */
final class FfmCalls extends HotCalls {
  private static final ThreadLocal<kvc_error> ERROR = ThreadLocal.withInitial(kvc_error::new);
  private static final MethodHandle APPEND, ATTEND, COMMIT; // memory as segments, which the linker holds during the call
  private static final MethodHandle APPEND_AT, ATTEND_AT; // memory as addresses
  private static final Class<?> COLLECTED = collected();

  static {
    kvc.kvc_abi_version(); // loads the library, whose ABI the raw layer compares
    APPEND = append(ADDRESS);
    APPEND_AT = append(JAVA_LONG);
    ATTEND = attend(ADDRESS);
    ATTEND_AT = attend(JAVA_LONG);
    COMMIT = function("kvc_step_commit", JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  }

  /** Step and layer, then the buffers with their lengths, the options if there are any, and the error. */
  private static MethodHandle append(MemoryLayout memory) {
    return function("kvc_append", JAVA_LONG, JAVA_LONG, memory, JAVA_LONG, memory, JAVA_LONG, JAVA_LONG);
  }

  private static MethodHandle attend(MemoryLayout memory) {
    return function("kvc_attend", JAVA_LONG, JAVA_LONG, memory, JAVA_LONG, memory, JAVA_LONG, memory, JAVA_LONG, JAVA_LONG, JAVA_LONG);
  }

  @SuppressWarnings("restricted")
  private static MethodHandle function(String name, MemoryLayout... arguments) {
    MemorySegment address = SymbolLookup.loaderLookup().find(name).orElseThrow(() -> new UnsatisfiedLinkError("kvc: no " + name));
    return Linker.nativeLinker().downcallHandle(address, FunctionDescriptor.of(JAVA_INT, arguments));
  }

  @Override
  String name() { return "ffm"; }

  @Override
  void append(long step, long layer, ByteBuffer k, ByteBuffer v) {
    if (ofArena(k) || ofArena(v)) {
      appendHeld(step, layer, k, v);
      return;
    }
    try {
      append(step, layer, address("kvc_append", "k", k, false), bytes(k), address("kvc_append", "v", v, false), bytes(v));
    } finally {
      Reference.reachabilityFence(k);
      Reference.reachabilityFence(v);
    }
  }

  private static void appendHeld(long step, long layer, ByteBuffer k, ByteBuffer v) {
    MemorySegment keys = numbers("kvc_append", "k", k, false), values = numbers("kvc_append", "v", v, false);
    held("kvc_append", () -> append(step, layer, keys, values), List.of("k", "v"), keys, values);
  }

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
  void attend(long step, long layer, ByteBuffer q, ByteBuffer out, FloatBuffer lse, kvc_attend_options options) {
    if (ofArena(q) || ofArena(out) || ofArena(lse)) {
      attendHeld(step, layer, q, out, lse, options);
      return;
    }
    try {
      attend(step, layer, address("kvc_attend", "q", q, false), bytes(q), address("kvc_attend", "out", out, true), bytes(out),
          lse == null ? 0 : segment("kvc_attend", "lse", lse, lse.order(), true).address(), lse == null ? 0 : 4L * lse.remaining(), options);
    } finally {
      Reference.reachabilityFence(q);
      Reference.reachabilityFence(out);
      Reference.reachabilityFence(lse);
    }
  }

  private static void attendHeld(long step, long layer, ByteBuffer q, ByteBuffer out, FloatBuffer lse, kvc_attend_options options) {
    MemorySegment queries = numbers("kvc_attend", "q", q, false), outputs = numbers("kvc_attend", "out", out, true);
    MemorySegment sums = lse == null ? MemorySegment.NULL : segment("kvc_attend", "lse", lse, lse.order(), true);
    held("kvc_attend", () -> attend(step, layer, queries, outputs, sums, options), List.of("q", "out", "lse"), queries, outputs, sums);
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

  @Override
  void commit(long step, LongBuffer accepted) {
    kvc_error error = ERROR.get();
    int status;
    try {
      status = accepted == null
          ? (int) COMMIT.invokeExact(step, 0L, 0L, kvc_error.getCPtr(error))
          : (int) COMMIT.invokeExact(step, segment("kvc_step_commit", "accepted", accepted, accepted.order(), false).address(), (long) accepted.remaining(), kvc_error.getCPtr(error));
    } catch (Throwable e) {
      throw unchecked(e);
    } finally {
      Reference.reachabilityFence(accepted);
    }
    check(status, "kvc_step_commit", error);
  }

  /** Can its owner free the memory? A scope of the class that buffers have which Java itself frees, once nobody holds them, is not closed. */
  private static boolean ofArena(Buffer buffer) { return buffer != null && MemorySegment.ofBuffer(buffer).scope().getClass() != COLLECTED; }

  private static Class<?> collected() {
    Class<?> type = MemorySegment.ofBuffer(ByteBuffer.allocateDirect(1)).scope().getClass();
    try (Arena confined = Arena.ofConfined(); Arena shared = Arena.ofShared()) {
      return type == confined.scope().getClass() || type == shared.scope().getClass() ? null : type; // null: any could be closed
    }
  }

  private static MemorySegment segment(String operation, String name, Buffer buffer, ByteOrder order, boolean written) {
    return MemorySegment.ofBuffer(direct(operation, name, buffer, order, written));
  }

  private static MemorySegment numbers(String operation, String name, ByteBuffer numbers, boolean written) {
    return numbers == null ? MemorySegment.NULL : segment(operation, name, numbers, numbers.order(), written);
  }

  /** Only the number leaves this method, so that the compiler makes no object of the segment. */
  private static long address(String operation, String name, ByteBuffer numbers, boolean written) {
    return numbers == null ? 0 : segment(operation, name, numbers, numbers.order(), written).address();
  }

  private static long bytes(ByteBuffer buffer) { return buffer == null ? 0 : buffer.remaining(); }

  /** During the call the linker holds the Arena of each segment; it does not say which it could not. */
  private static void held(String operation, Runnable call, List<String> names, MemorySegment... segments) {
    try {
      call.run();
    } catch (IllegalStateException | WrongThreadException e) {
      for (int i = 0; i < segments.length; i++) {
        if (!segments[i].scope().isAlive()) throw new KvcException.Argument(operation, names.get(i) + ": its Arena is closed");
        if (!segments[i].isAccessibleBy(Thread.currentThread()))
          throw new KvcException.Argument(operation, names.get(i) + ": its Arena belongs to another thread");
      }
      throw e;
    }
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

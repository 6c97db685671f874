package kvc;

import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;

/**
 * Steps over memory segments, for Java 22 and newer: native ones of the host, whose arena stays open during the call. Like the calls of Step with
 * buffers, but longer than 2 GiB if need be, and cheaper: nothing stands between the segment and C.
 */
public final class Segments {
  private Segments() {}

  public static void append(Step step, long layer, MemorySegment k, MemorySegment v) {
    step.requireHost("kvc_append");
    try {
      FfmCalls.append(step.handle, layer, k, v);
    } finally {
      Reference.reachabilityFence(step);
    }
  }

  /** lse = MemorySegment.NULL: none; options may be null. */
  public static void attend(Step step, long layer, MemorySegment q, MemorySegment out, MemorySegment lse, AttendOptions options) {
    step.requireHost("kvc_attend");
    if (out.isReadOnly() || lse.isReadOnly())
      throw new KvcException.Argument("kvc_attend", (out.isReadOnly() ? "out" : "lse") + ": a segment that can be written is needed");
    try {
      FfmCalls.attend(step.handle, layer, q, out, lse, options == null ? null : options.raw);
    } finally {
      Reference.reachabilityFence(step);
    }
  }
}

using System;
using System.Runtime.InteropServices;
using Kvc.Raw;

namespace Kvc {

/// <summary>
/// One forward pass over a batch of sequences. Commit publishes it; Abort, Dispose and the collector undo it. Append and Attend copy
/// nothing and allocate nothing.
/// </summary>
public sealed unsafe class Step : IDisposable {
  readonly StepHandle own;
  readonly bool onDevice;   // where the step's options say that its buffers lie
  readonly Dtype keysAndValues, queries, outputs;
  bool disposed;            // a handle that calls of other threads hold would not say so

  internal Step(StepHandle handle, StepOptions options) {
    own = handle;
    if (options == null) return;
    onDevice = options.Buffers > Device.Cpu;
    keysAndValues = options.KvDtype;
    queries = options.QDtype;
    outputs = options.OutDtype;
  }

  StepHandle handle => disposed ? throw new ObjectDisposedException(nameof(Step)) : own;

  /// <summary>Stores the keys and values of one layer.</summary>
  public void Append(long layer, ReadOnlySpan<float> k, ReadOnlySpan<float> v) => Append<float>(layer, k, v);

  /// <summary>The same for the element type that the step was begun with: float, ushort for 16-bit numbers, or byte for its bytes.</summary>
  public void Append<T>(long layer, ReadOnlySpan<T> k, ReadOnlySpan<T> v) where T : struct {
    RequireHost();
    Require<T>(keysAndValues, "kvc_append", "k and v");
    ReadOnlySpan<byte> keys = MemoryMarshal.AsBytes(k), values = MemoryMarshal.AsBytes(v);
    fixed (byte* ks = &keys.GetPinnableReference(), vs = &values.GetPinnableReference()) {
      kvc.kvc_append(handle, layer, ks, keys.Length, vs, values.Length);
    }
  }

  /// <summary>The same from addresses, of the device or of the host as the step's options say.</summary>
  public void Append(long layer, IntPtr k, long kBytes, IntPtr v, long vBytes) =>
      kvc.kvc_append(handle, layer, (void*)k, kBytes, (void*)v, vBytes);

  /// <summary>Attention of the step's tokens over their sequences; lse, if given, gets the log-sum-exps.</summary>
  public void Attend(long layer, ReadOnlySpan<float> q, Span<float> output, Span<float> lse = default(Span<float>),
                     AttendOptions options = null) => Attend<float, float>(layer, q, output, lse, options);

  /// <summary>The same for the element types that the step was begun with, as in Append.</summary>
  public void Attend<TQuery, TOutput>(long layer, ReadOnlySpan<TQuery> q, Span<TOutput> output,
                                      Span<float> lse = default(Span<float>), AttendOptions options = null)
      where TQuery : struct where TOutput : struct {
    RequireHost();
    Require<TQuery>(queries, "kvc_attend", "q");
    Require<TOutput>(outputs, "kvc_attend", "output");
    ReadOnlySpan<byte> asked = MemoryMarshal.AsBytes(q);
    Span<byte> results = MemoryMarshal.AsBytes(output);
    fixed (byte* from = &asked.GetPinnableReference(), to = &results.GetPinnableReference())
    fixed (float* sums = &lse.GetPinnableReference()) {
      kvc.kvc_attend(handle, layer, from, asked.Length, to, results.Length, sums, lse.Length * 4L, options?.raw);
    }
  }

  /// <summary>The same from and to addresses, of the device or of the host as the step's options say; lse may be zero.</summary>
  public void Attend(long layer, IntPtr q, long qBytes, IntPtr output, long outputBytes, IntPtr lse, long lseBytes,
                     AttendOptions options = null) =>
      kvc.kvc_attend(handle, layer, (void*)q, qBytes, (void*)output, outputBytes, (float*)lse, lseBytes, options?.raw);

  /// <summary>Publishes all tokens of the step. On failure it stays open.</summary>
  public void Commit() {
    kvc.kvc_step_commit(handle, null, 0);
    own.End();
  }

  /// <summary>Publishes the first accepted[i] tokens of each sequence. On failure the step stays open.</summary>
  public void Commit(ReadOnlySpan<long> accepted) {
    fixed (long* counts = &GivenList<long>.Of(accepted)) kvc.kvc_step_commit(handle, counts, accepted.Length);
    own.End();
  }

  /// <summary>Ends the step as if it had never begun. KvcHandleException if it has ended already.</summary>
  public void Abort() {
    kvc.kvc_step_abort(handle);
    own.End();
  }

  /// <summary>Aborts the step if it is still open.</summary>
  public void Dispose() {
    disposed = true;
    own.Dispose();
  }

  // A span is memory of the host: what C would take for an address of the device is refused here.
  void RequireHost() {
    if (onDevice) throw new InvalidOperationException("kvc: the step's buffers lie on the device; pass addresses");
  }

  // C sees how many bytes there are, not what they are.
  static void Require<T>(Dtype dtype, string operation, string name) {
    bool half = dtype == Dtype.F16 || dtype == Dtype.BF16;
    if (typeof(T) == typeof(byte) || typeof(T) == (half ? typeof(ushort) : typeof(float))) return;
    throw new KvcArgumentException(operation, name + ": spans of " + typeof(T).Name + ", the step was begun with " +
        (half ? dtype + ", which takes ushort" : "F32, which takes float") + " or byte");
  }
}

}

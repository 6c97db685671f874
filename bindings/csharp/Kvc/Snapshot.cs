using System;
using Kvc.Raw;

namespace Kvc {

// Sequences as bytes, and back: without a list all of the cache, in the order in which they were made. An empty list is refused: in C it
// stands for all, which nobody means who computed one. A snapshot of more than 2 GiB fits no span: Save and Load take it.
public sealed unsafe partial class Cache {
  /// <summary>Writes a snapshot of all sequences and returns its bytes; an empty span asks for their number alone.</summary>
  public long Export(Span<byte> to) => ExportOf(to, new Sequence[0]);

  /// <summary>The same of these sequences, in their order.</summary>
  public long Export(Span<byte> to, params Sequence[] sequences) => ExportOf(to, Named("kvc_snapshot_export", sequences));

  static Sequence[] Named(string operation, Sequence[] sequences) {
    if (sequences == null) throw new ArgumentNullException(nameof(sequences));
    if (sequences.Length == 0) throw new KvcArgumentException(operation, "no sequences were named; without a list it is all of them");
    return sequences;
  }

  long ExportOf(Span<byte> to, Sequence[] sequences) {
    SequenceHandle[] held = Sequence.Hold(this, "kvc_snapshot_export", sequences);
    try {
      long written;
      fixed (long* seqs = Values(held))
      fixed (byte* bytes = &to.GetPinnableReference()) {
        kvc.kvc_snapshot_export(handle, seqs, held.Length, bytes, to.Length, &written);
      }
      return written;
    } finally {
      Sequence.Let(held);
    }
  }

  /// <summary>A snapshot of all sequences, as an array of its size.</summary>
  public byte[] Export() => ExportOf(new Sequence[0]);

  /// <summary>The same of these sequences, in their order.</summary>
  public byte[] Export(params Sequence[] sequences) => ExportOf(Named("kvc_snapshot_export", sequences));

  byte[] ExportOf(Sequence[] sequences) {
    for (;;) {
      var bytes = new byte[ExportOf(Span<byte>.Empty, sequences)];   // refuses what is wrong with the call
      try {
        Array.Resize(ref bytes, (int)ExportOf(bytes, sequences));   // a sequence may have ended in between
        return bytes;
      } catch (KvcArgumentException) {
        // A commit of another thread has added tokens in between.
      }
    }
  }

  /// <summary>Makes new sequences from a snapshot, in the order of the export: all, or none and nothing has changed.</summary>
  public Sequence[] Import(ReadOnlySpan<byte> data) {
    var made = new Sequence[Import(data, Span<Sequence>.Empty)];
    Import(data, made);
    return made;
  }

  /// <summary>The same into a span that must have room for them. An empty one only checks the bytes. Returns their number.</summary>
  public long Import(ReadOnlySpan<byte> data, Span<Sequence> to) {
    long n;
    var values = new long[to.Length];
    fixed (byte* from = &data.GetPinnableReference())
    fixed (long* out_ = values) kvc.kvc_snapshot_import(handle, from, data.Length, out_, values.Length, &n);
    Fill(to, values, n);
    return n;
  }

  /// <summary>Writes a snapshot of all sequences to a file, which is replaced as a whole or stays as it was.</summary>
  public void Save(string path) => SaveOf(path, new Sequence[0]);

  /// <summary>The same of these sequences, in their order.</summary>
  public void Save(string path, params Sequence[] sequences) => SaveOf(path, Named("kvc_snapshot_save", sequences));

  void SaveOf(string path, Sequence[] sequences) {
    SequenceHandle[] held = Sequence.Hold(this, "kvc_snapshot_save", sequences);
    try {
      fixed (long* seqs = Values(held)) kvc.kvc_snapshot_save(handle, seqs, held.Length, path);
    } finally {
      Sequence.Let(held);
    }
  }

  /// <summary>Makes new sequences from the snapshot in a file.</summary>
  public Sequence[] Load(string path) {
    var made = new Sequence[Load(path, Span<Sequence>.Empty)];
    Array.Resize(ref made, (int)Load(path, made));   // the file may have been replaced by a smaller one in between
    return made;
  }

  /// <summary>The same into a span that must have room for them. An empty one only checks the file. Returns their number.</summary>
  public long Load(string path, Span<Sequence> to) {
    long n;
    var values = new long[to.Length];
    fixed (long* out_ = values) kvc.kvc_snapshot_load(handle, path, out_, values.Length, &n);
    Fill(to, values, n);
    return n;
  }

  static long[] Values(SequenceHandle[] held) => Array.ConvertAll(held, sequence => sequence.Value);

  void Fill(Span<Sequence> to, long[] values, long n) {
    for (int i = 0; i < to.Length && i < n; i++) to[i] = new Sequence(this, new SequenceHandle(values[i]));
  }
}

}

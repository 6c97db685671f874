using System;
using System.Collections.Generic;
using System.Linq;
using Kvc;

namespace SmolServer {

sealed partial class Engine {
  /// <summary>A stream's part of a step.</summary>
  struct Entry {
    public Stream Stream;
    public int Tokens;
  }

  // Of the step; the arrays grow to the largest one.
  readonly List<Entry> entries = new List<Entry>();
  int rows, lastCount;
  long[] tokens = {}, positions = {}, lastRows = {}, chosen = {};
  float[] x = {}, q = {}, k = {}, v = {}, attended = {};

  // Lists who takes part in the next step: streams that write, oldest first, then the oldest that reads.
  void Compose() {
    const int Least = 64;   // rows of a prompt, however many streams write
    entries.Clear();
    entries.AddRange(running.Where(stream => !stream.Reads).Select(stream => new Entry {Stream = stream, Tokens = 1}));
    Stream reader = running.FirstOrDefault(stream => stream.Reads);
    if (reader == null) return;
    int n = Math.Min(reader.Unread, Math.Max(Least, StepRows - entries.Count));
    if (!reader.Published && reader.Length < reader.System) n = Math.Min(n, reader.System - reader.Length);
    n = (int)Math.Min(n, reader.Sequence.StepLimit);
    entries.Add(new Entry {Stream = reader, Tokens = n});
  }

  // Opens the step, and makes room for it where there is none.
  Step Begin() {
    for (;;) {
      try {
        return Cache.Begin(entries.Select(entry => entry.Stream.Sequence).ToArray(), entries.Select(entry => (long)entry.Tokens).ToArray());
      } catch (KvcNoMemoryException) {
        int last = entries.Count - 1;
        if (Relieve()) continue;
        if (last > 0) {
          entries.RemoveAt(last);
        } else if (!Preempt(entries[0].Stream)) {
          if (entries[0].Tokens == 1) throw;
          entries[0] = new Entry {Stream = entries[0].Stream, Tokens = entries[0].Tokens / 2};
        }
      }
    }
  }

  // Runs one step and hands its tokens out. What fails, fails for the streams in it.
  void ComputeStep() {
    try {
      Compose();
      Forward();
    } catch (Exception e) when (e is KvcException || e is InvalidOperationException || e is OutOfMemoryException) {
      lock (mutex) {
        foreach (Entry entry in entries) {
          Release(entry.Stream);
          entry.Stream.Fail(e);
        }
      }
      return;
    }
    int next = 0;
    foreach (Entry entry in entries) {
      Stream stream = entry.Stream;
      stream.Length += entry.Tokens;
      if (!stream.Published && stream.Length == stream.System) Publish(stream);
      if (stream.Unread == 0) Advance(stream, chosen[next++]);
    }
  }

  void Publish(Stream stream) {
    stream.Published = true;
    try {
      Cache.Prefixes.Publish(stream.Sequence, new ReadOnlySpan<long>(stream.Tokens, 0, stream.System), default(ReadOnlySpan<byte>));
    } catch (KvcException) {
      // An index without room is no error: the next prompt is read as a whole.
    }
  }

  // Computes the step: the model's layers around kvc's appends and attends.
  void Forward() {
    using (Step step = Begin()) {
      Fill();
      ReadOnlySpan<float> queries = new ReadOnlySpan<float>(q, 0, rows * (int)Model.QWidth);
      ReadOnlySpan<float> keys = new ReadOnlySpan<float>(k, 0, rows * (int)Model.KvWidth);
      ReadOnlySpan<float> values = new ReadOnlySpan<float>(v, 0, rows * (int)Model.KvWidth);
      Span<float> outputs = new Span<float>(attended, 0, queries.Length);
      Model.Embed(tokens, rows, x);
      for (long layer = 0; layer < Model.Layers; layer++) {
        Model.Project(layer, x, positions, rows, q, k, v);
        step.Append(layer, keys, values);
        step.Attend(layer, queries, outputs);
        Model.Mix(layer, x, attended, rows);
      }
      step.Commit();
    }
    Model.Choose(x, lastRows, lastCount, chosen);
  }

  // Lays out the rows of the step that was begun.
  void Fill() {
    rows = entries.Sum(entry => entry.Tokens);
    Grow(ref tokens, rows);
    Grow(ref positions, rows);
    Grow(ref lastRows, entries.Count);
    Grow(ref chosen, entries.Count);
    Grow(ref x, rows * Model.Width);
    Grow(ref q, rows * Model.QWidth);
    Grow(ref attended, rows * Model.QWidth);
    Grow(ref k, rows * Model.KvWidth);
    Grow(ref v, rows * Model.KvWidth);
    int row = 0;
    lastCount = 0;
    foreach (Entry entry in entries) {
      Stream stream = entry.Stream;
      for (int at = stream.Length; at < stream.Length + entry.Tokens; at++, row++) {
        tokens[row] = stream.Tokens[at];
        positions[row] = at;
      }
      if (entry.Tokens > 0 && entry.Tokens == stream.Unread) lastRows[lastCount++] = row - 1;
    }
  }

  static void Grow<T>(ref T[] array, long n) {
    if (array.Length < n) array = new T[n];
  }
}

}

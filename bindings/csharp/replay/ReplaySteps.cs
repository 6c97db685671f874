using System;
using System.Collections.Generic;
using Kvc;
using Kvc.Raw;

/// <summary>A step under a name, as it was begun.</summary>
sealed class StepRecord {
  internal Step Step;
  internal long[] Counts = new long[0], First = new long[0];
  internal ulong[] Data = new ulong[0];
  internal Dtype Kv = Dtype.F32, Q = Dtype.F32, Out = Dtype.F32;
  internal long Padding, Tokens;
}

// Steps.
sealed partial class Replay {
  readonly Rows keys = new Rows(), values = new Rows(), queries = new Rows(), results = new Rows();
  float[] lse = new float[0];

  StepRecord StepOf(Operation operation) =>
      steps.TryGetValue(operation.Name(0), out StepRecord record) ? record : new StepRecord {Step = new Step(new StepHandle(), null)};

  static Dtype TypeOf(string word) {
    switch (word) {
    case "f32": return Dtype.F32;
    case "f16": return Dtype.F16;
    case "bf16": return Dtype.BF16;
    default: throw new ScriptException("unknown element type " + word);
    }
  }

  StepOptions StepOptions(Operation operation, StepRecord record) {
    var o = new StepOptions {
      KvDtype = record.Kv, QDtype = record.Q, OutDtype = record.Out, PartialCommit = operation.Flag("partial_commit"),
      Strict = operation.Flag("strict"), Accumulate = operation.Flag("accumulate")
    };
    if (record.Padding <= 0) return o;
    LayerOptions shape = shapes.Of(operation);
    o.KTokenStride = shape.KvHeads * shape.KDim + record.Padding;
    o.VTokenStride = shape.KvHeads * shape.VDim + record.Padding;
    o.QTokenStride = shape.QHeads * shape.KDim + record.Padding;
    o.OutTokenStride = shape.QHeads * shape.VDim + record.Padding;
    return o;
  }

  void Begin(Operation operation) {
    int n = operation.Counts.Count;
    var record = new StepRecord {
      Kv = TypeOf(operation.Word("kv", "f32")), Q = TypeOf(operation.Word("q", "f32")), Out = TypeOf(operation.Word("out", "f32")),
      Padding = operation.Number("padding"), Counts = new long[n], First = new long[n], Data = new ulong[n]
    };
    var taken = new Sequence[n];
    var positions = new long[n];
    for (int i = 0; i < n; i++) {
      KeyValuePair<string, long> pair = operation.Counts[i];
      Track track = TrackOf(pair.Key);
      taken[i] = track.Sequence;
      record.Data[i] = track.Data;
      record.Counts[i] = pair.Value;
      record.First[i] = OrZero(() => track.Sequence.Length);
      record.Tokens += pair.Value;
      positions[i] = record.First[i] + operation.Number("position_error");
    }
    bool guard = operation.Has("guard") || operation.Has("position_error");
    StepOptions options = StepOptions(operation, record);
    record.Step = guard ? cache.Begin(taken, record.Counts, options, positions) : cache.Begin(taken, record.Counts, options);
    made.Add(record.Step);
    steps[operation.Name(0)] = record;
  }

  void Fill(Rows rows, Operation operation, StepRecord record, Source source) {
    LayerOptions shape = shapes.Of(operation);
    Dtype type = source == Source.Queries ? record.Q : record.Kv;
    long heads = source == Source.Queries ? shape.QHeads : shape.KvHeads, dim = source == Source.Values ? shape.VDim : shape.KDim;
    rows.Shape(type, record.Tokens, heads * dim, record.Padding);
    var numbers = new Numbers(operation.Seed("seed"), 0, operation.Word("kind", "normal"), type);
    int row = 0;
    for (int i = 0; i < record.Counts.Length; i++) {
      numbers.Data = record.Data[i];
      rows.Fill(numbers, operation.Number("layer"), source, record.First[i], row, record.Counts[i], dim);
      row += (int)record.Counts[i];
    }
    rows.SpoilLast(numbers);
  }

  void Append(Operation operation) {
    StepRecord record = StepOf(operation);
    Fill(keys, operation, record, Source.Keys);
    Fill(values, operation, record, Source.Values);
    record.Step.Append<byte>(operation.Number("layer"), keys.Bytes, values.Bytes);
  }

  void Attend(Operation operation) {
    StepRecord record = StepOf(operation);
    LayerOptions shape = shapes.Of(operation);
    Fill(queries, operation, record, Source.Queries);
    results.Shape(record.Out, record.Tokens, shape.QHeads * shape.VDim, record.Padding);
    int sums = operation.Number("lse", 1) != 0 ? checked((int)(record.Tokens * shape.QHeads)) : 0;
    if (lse.Length < sums) lse = new float[sums];
    var options = new AttendOptions {
      Scale = (float)operation.Real("scale"), SoftCap = (float)operation.Real("soft_cap"), Partial = operation.Flag("partial"),
      SlidingWindow = operation.Number("sliding_window"), CausalOffset = operation.Number("causal_offset")
    };
    try {
      record.Step.Attend<byte, byte>(operation.Number("layer"), queries.Bytes, results.Bytes, new Span<float>(lse, 0, sums), options);
    } finally {
      if (!results.PaddingUntouched()) throw new ScriptException("attend wrote between the rows of out");
    }
    results.AddTo(answer);
    answer.Add(new ReadOnlySpan<float>(lse, 0, sums));
  }

  void Commit(Operation operation) {
    var accepted = new long[operation.Counts.Count];
    for (int i = 0; i < accepted.Length; i++) accepted[i] = operation.Counts[i].Value;
    Step step = StepOf(operation).Step;
    if (accepted.Length == 0) {
      step.Commit();
    } else {
      step.Commit(accepted);
    }
  }
}

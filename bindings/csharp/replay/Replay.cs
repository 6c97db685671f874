using System;
using System.Collections.Generic;
using Kvc;
using Kvc.Raw;

/// <summary>Runs one operation script (docs/SCRIPTS.md) through the classes of the namespace Kvc and digests what it sees.</summary>
sealed partial class Replay : IDisposable {
  /// <summary>A sequence under a name, and where its numbers come from.</summary>
  struct Track {
    internal Sequence Sequence;
    internal ulong Data;
    internal long First;
  }

  readonly string target;
  readonly long threads;
  readonly Dictionary<string, Action<Operation>> verbs;
  readonly Dictionary<string, Track> sequences = new Dictionary<string, Track>();
  readonly Dictionary<string, StepRecord> steps = new Dictionary<string, StepRecord>();
  readonly Dictionary<string, byte[]> snapshots = new Dictionary<string, byte[]>();
  // A name that is used again leaves its object to the cache: the collector must not destroy it before the script's end.
  readonly List<IDisposable> made = new List<IDisposable>();
  readonly Shapes shapes = new Shapes();
  readonly Answer answer = new Answer();
  readonly Sha256 digest = new Sha256();
  Cache cache = new Cache(new CacheHandle());   // NULL until there is one

  internal Replay(string target, long threads) {
    this.target = target;
    this.threads = threads;
    verbs = new Dictionary<string, Action<Operation>> {
      {"layer", shapes.Line}, {"create", Create}, {"plan", Plan}, {"sink_logits", SinkLogits}, {"stats", Stats},
      {"seq", MakeSequence}, {"fork", Fork}, {"truncate", Truncate}, {"destroy", Destroy}, {"prompt", Prompt},
      {"length", o => answer.Numbers(Of(o).Length)}, {"floor", o => answer.Numbers(Of(o).ExactFloor)},
      {"live", o => answer.Numbers(Of(o).Live(o.Number("layer"), o.Number("head")))},
      {"begin", Begin}, {"append", Append}, {"attend", Attend}, {"commit", Commit}, {"abort", o => StepOf(o).Step.Abort()},
      {"evict", Evict}, {"keep", Keep}, {"merge", Merge}, {"step_down", StepDown}, {"read", Read}, {"codes", Codes},
      {"mass", o => ReadNumbers(o, Of(o).ReadMass)}, {"positions", o => ReadNumbers(o, Of(o).ReadPositions)},
      {"counts", o => ReadNumbers(o, Of(o).ReadCounts)}, {"rungs", o => ReadNumbers(o, Of(o).ReadRungs)},
      {"publish", Publish}, {"lookup", Lookup}, {"unpublish", Unpublish}, {"prefix_clear", o => cache.Prefixes.Clear()},
      {"prefix_budget", o => cache.Prefixes.SetBudget(o.Number("bytes"))}, {"prefix_stats", PrefixStats},
      {"export", Export}, {"import", Import}
    };
  }

  /// <summary>Runs an operation; null if its status was among the expected ones, otherwise what it answered.</summary>
  internal string Run(Operation operation) {
    if (!verbs.TryGetValue(operation.Verb, out Action<Operation> verb)) throw new ScriptException("unknown operation " + operation.Verb);
    answer.Clear();
    Status status = Status.Ok;
    string message = "";
    try {
      verb(operation);
    } catch (KvcException e) {
      answer.Clear();
      status = e.Status;
      message = e.Message;
    }
    digest.Add(BitConverter.GetBytes((int)status));
    digest.Add(answer.Bytes);
    string name = Discovery.StatusName(status);
    string word = status == Status.Ok ? "ok" : name.Substring("KVC_E_".Length).ToLowerInvariant();
    return operation.Expects(word) ? null : word + ": " + message;
  }

  internal string Digest() => digest.Finish();

  public void Dispose() {
    cache.Dispose();
    foreach (IDisposable one in made) one.Dispose();
  }

  // ---- Cache ----

  void Create(Operation operation) {
    if (!cache.handle.IsInvalid) throw new ScriptException("a script has one cache");
    shapes.Create(operation, target, threads);
    cache = new Cache(shapes.Options, shapes.Given);
  }

  void Plan(Operation operation) {
    var request = new PlanRequest {
      Tokens = operation.Number("tokens"), Sequences = operation.Number("sequences"), StepTokens = operation.Number("step_tokens"),
      BudgetBytes = operation.Number("budget_bytes"), PartialCommit = operation.Flag("partial_commit")
    };
    Plan p = Discovery.Plan(shapes.Options, request, shapes.Given);
    answer.Numbers(p.ArenaBytes, p.SlabBytes, p.RecordBytes, p.Fp16Bytes, p.MaxTokens, p.MaxSequences);
  }

  unsafe void SinkLogits(Operation operation) {
    var logits = new float[operation.Number("n", shapes.Of(operation).QHeads)];
    var numbers = new Numbers(operation.Seed("seed"), 0, operation.Word("kind", "normal"));
    fixed (float* to = logits) {
      numbers.Fill(operation.Number("layer"), Source.SinkLogits, 0, logits.Length, Math.Max(logits.Length, 1), (byte*)to);
    }
    cache.SetSinkLogits(operation.Number("layer"), logits);
  }

  void Stats(Operation operation) {
    if (operation.Names.Count > 0) {
      SequenceStats s = Of(operation).Stats();
      answer.Numbers(s.Tokens, s.RecordBytes, s.SharedBytes, s.Fp16Bytes);
      return;
    }
    CacheStats c = cache.Stats();
    answer.Numbers(c.ArenaBytes, c.BoundBytes, c.RecordBytes, c.SinkBytes, c.WindowBytes, c.CodeBytes, c.ReservedBytes, c.SideBytes,
                   c.Sequences, c.OpenSteps, c.TokensAppended, c.TokensEvicted, c.PagesQuantized, c.TokensRequantized);
  }

  // ---- Sequences ----

  Track TrackOf(string name) =>
      sequences.TryGetValue(name, out Track track) ? track : new Track {Sequence = new Sequence(cache, new SequenceHandle())};

  Sequence Of(Operation operation) => TrackOf(operation.Name(0)).Sequence;

  void Name(string name, Sequence sequence, ulong data, long first) {
    made.Add(sequence);
    sequences[name] = new Track {Sequence = sequence, Data = data, First = first};
  }

  static SequenceOptions SequenceOptions(Operation operation) =>
      new SequenceOptions {FirstPosition = operation.Number("first_position"), PromptLength = operation.Number("prompt_length")};

  static Cut CutOf(Operation operation) => operation.Word("cut") == "inexact" ? Cut.Inexact : Cut.Exact;

  void MakeSequence(Operation operation) {
    Sequence sequence = cache.CreateSequence(SequenceOptions(operation));
    Name(operation.Name(0), sequence, operation.Seed("data"), operation.Number("first_position"));
  }

  void Fork(Operation operation) {
    Track from = TrackOf(operation.Name(1));
    Sequence fork = from.Sequence.Fork(operation.Number("length"), CutOf(operation));
    Name(operation.Name(0), fork, operation.Has("data") ? operation.Seed("data") : from.Data, from.First);
  }

  void Truncate(Operation operation) => Of(operation).Truncate(operation.Number("length"), CutOf(operation));

  void Destroy(Operation operation) => Of(operation).Destroy();

  void Prompt(Operation operation) => Of(operation).SetPrompt(operation.Number("end"));

  /// <summary>The answer of a call, or 0 where it fails: a stale sequence has no tokens.</summary>
  static long OrZero(Func<long> call) {
    try {
      return call();
    } catch (KvcException) {
      return 0;
    }
  }
}

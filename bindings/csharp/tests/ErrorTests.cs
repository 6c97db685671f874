using System;
using System.IO;
using Kvc;

/// <summary>Misuse gives the exception of its status, which says what was done and why not, and changes nothing.</summary>
static class ErrorTests {
  static T Fails<T>(string operation, Action call) where T : KvcException {
    T e = Check.Throws<T>(call);
    Check.Equal(operation, e.Operation, "operation");
    Check.That(e.Message.Length > 5, "a message that says nothing: " + e.Message);
    return e;
  }

  static void Refused(string operation, string message, Action call) =>
      Check.Equal(message, Fails<KvcArgumentException>(operation, call).Message, operation);

  public static void Argument() {
    CacheOptions options = Model.Options();
    options.KDim = 17;
    KvcException e = Fails<KvcArgumentException>("kvc_create", () => new Cache(options));
    Check.That(e.Message.Contains("17"), "the value is not named: " + e.Message);
    Fails<KvcArgumentException>("kvc_supports", () => Discovery.CheckSupport(options));
    Fails<KvcArgumentException>("kvc_plan_compute", () => Discovery.Plan(options, new PlanRequest {Tokens = 1}));
    Fails<KvcArgumentException>("kvc_codec_format", () => Discovery.FormatCodec("int5"));
    Fails<KvcArgumentException>("kvc_policy_format", () => Discovery.FormatPolicy("h3o"));
    Fails<KvcArgumentException>("kvc_device_count", () => Discovery.DeviceCount((Device)77));
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Fails<KvcArgumentException>("kvc_seq_truncate", () => sequence.Truncate(0, (Cut)9));
      Fails<KvcArgumentException>("kvc_seq_live", () => sequence.Live(Model.Layers, 0));
      using (Step step = cache.Begin(sequence, 2)) {
        Fails<KvcArgumentException>("kvc_append", () => step.Append(0, Model.Row(1, 1), Model.Row(2, 1)));
        Fails<KvcArgumentException>("kvc_append", () => step.Append(0, null, null));
      }
    }
  }

  public static void Handle() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      sequence.Destroy();
      Fails<KvcHandleException>("kvc_seq_length", () => GC.KeepAlive(sequence.Length));
      Fails<KvcHandleException>("kvc_seq_destroy", sequence.Destroy);
      Fails<KvcHandleException>("kvc_step_begin", () => cache.Begin(sequence, 1));
      using (Cache other = Model.Cache()) {
        Sequence own = cache.CreateSequence(), foreign = other.CreateSequence();
        foreach (KvcException e in new[] {
                   Fails<KvcHandleException>("kvc_step_begin", () => cache.Begin(foreign, 1)),
                   Fails<KvcHandleException>("kvc_step_begin", () => cache.Begin(new[] {own, foreign}, new long[] {1, 1})),
                   Fails<KvcHandleException>("kvc_snapshot_export", () => cache.Export(own, foreign)),
                   Fails<KvcHandleException>("kvc_snapshot_export", () => cache.Export(new byte[1 << 16], foreign)),
                   Fails<KvcHandleException>("kvc_snapshot_save", () => cache.Save("nowhere", foreign)),
                   Fails<KvcHandleException>("kvc_prefix_publish", () => cache.Prefixes.Publish(foreign, new long[] {1}, null))})
          Check.Equal("a sequence belongs to another cache", e.Message, "message");
        own.Destroy();   // busy if what failed had begun or held it
      }
    }
  }

  public static void Range() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Model.Run(cache, sequence, 300);
      Fails<KvcRangeException>("kvc_seq_fork", () => sequence.Fork(1));
      Fails<KvcRangeException>("kvc_seq_truncate", () => sequence.Truncate(301));
      Check.Equal(300, sequence.Length, "length after calls that failed");
    }
  }

  public static void Order() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      using (Step step = cache.Begin(sequence, 1)) {
        Fails<KvcOrderException>("kvc_attend", () => step.Attend(0, Model.Row(1, 1), new float[Model.Dim]));
        Fails<KvcOrderException>("kvc_step_commit", () => step.Commit());
        Model.Layer(step, 1);
        step.Commit();   // a commit that failed has left the step open
      }
    }
    CacheOptions turning = Model.Options();
    turning.Keys = Keys.BeforeRope;
    turning.RopeTheta = 1e4;
    using (var cache = new Cache(turning)) {
      cache.SetRopeFrequencies(0, new double[Model.Dim / 2]);
      cache.CreateSequence();
      Fails<KvcOrderException>("kvc_rope_frequencies_set", () => cache.SetRopeFrequencies(0, new double[Model.Dim / 2]));
    }
  }

  public static void Busy() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      using (cache.Begin(sequence, 1)) {
        Fails<KvcBusyException>("kvc_seq_destroy", sequence.Destroy);
        Fails<KvcBusyException>("kvc_step_begin", () => cache.Begin(sequence, 1));
        Fails<KvcBusyException>("kvc_snapshot_export", () => cache.Export());
        Fails<KvcBusyException>("kvc_sink_logits_set", () => cache.SetSinkLogits(0, new float[1]));
      }
    }
  }

  public static void NoMemory() {
    CacheOptions options = Model.Options();
    options.ArenaGrowth = false;
    options.ArenaTokens = 128;
    options.ArenaSequences = 1;
    using (var cache = new Cache(options)) {
      Sequence sequence = cache.CreateSequence();
      Fails<KvcNoMemoryException>("kvc_step_begin", () => cache.Begin(sequence, 100000));
      Model.Run(cache, sequence, 64);
    }
  }

  public static void Nonfinite() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      float[] spoiled = Model.Row(1, 1);
      spoiled[3] = float.NaN;
      using (Step step = cache.Begin(sequence, 1))
        Fails<KvcNonfiniteException>("kvc_append", () => step.Append(0, spoiled, Model.Row(1, 2)));
    }
  }

  public static void Unsupported() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Fails<KvcUnsupportedException>("kvc_buffer_create", () => cache.CreateBuffer(BufferKind.Device, 256));
      Fails<KvcUnsupportedException>("kvc_graph_create", () => cache.CreateGraph(new long[] {1}, 64));
      Fails<KvcUnsupportedException>("kvc_step_down", () => sequence.StepDown());
    }
  }

  public static void Corrupt() {
    using (Cache cache = Model.Cache()) {
      Model.Run(cache, cache.CreateSequence(), 100);
      byte[] bytes = cache.Export();
      bytes[bytes.Length / 2] ^= 1;
      Fails<KvcCorruptException>("kvc_snapshot_import", () => cache.Import(bytes));
      Check.Equal(1, cache.Stats().Sequences, "sequences after an import that failed");
    }
  }

  public static void Files() {
    using (Cache cache = Model.Cache()) {
      string nowhere = Path.Combine(Path.GetTempPath(), "kvc-no-such-folder", "x");
      KvcException e = Fails<KvcIOException>("kvc_snapshot_load", () => cache.Load(nowhere));
      Check.That(e.Message.Contains(nowhere), "the file is not named: " + e.Message);
      Fails<KvcIOException>("kvc_snapshot_save", () => cache.Save(nowhere, cache.CreateSequence()));
    }
  }

  // What C could not notice, or would cut.
  public static void RefusedBeforeC() {
    CacheOptions options = Model.Options();
    KvcException e = Fails<KvcArgumentException>("kvc_options", () => options.Codec = new string('k', 128));
    Check.Equal("codec: a text of 128 bytes (at most 127)", e.Message, "message");
    Fails<KvcArgumentException>("kvc_layer", () => new LayerOptions().Codec = new string('é', 64));
    foreach (string broken in new[] {"int4\0,k=int2", "int4\ud83d", "int4\ude00x"}) {
      string why = broken[4] == 0 ? ": byte 4 is a NUL" : ": a text with half a surrogate pair";
      Refused("kvc_options", "codec" + why, () => options.Codec = broken);
      Refused("kvc_options", "policy" + why, () => options.Policy = broken);
      Refused("kvc_layer", "codec" + why, () => new LayerOptions().Codec = broken);
      Refused("kvc_codec_format", "codec" + why, () => Discovery.FormatCodec(broken));
      Refused("kvc_policy_format", "policy" + why, () => Discovery.FormatPolicy(broken));
      using (Cache cache = Model.Cache()) {
        Refused("kvc_snapshot_save", "path" + why, () => cache.Save(broken));
        Refused("kvc_snapshot_load", "path" + why, () => cache.Load(broken));
      }
    }
    Refused("kvc_options", "codec: byte 5 is a NUL", () => options.Codec = "\u00e9int\u0000");
    Check.Equal("int4", options.Codec, "codec after what was refused");
    Check.Throws<ArgumentNullException>(() => new Cache((CacheOptions)null));
    Check.Throws<ArgumentNullException>(() => new Cache(options, new LayerOptions(), null));
    foreach (Action call in new Action[] {() => Discovery.CheckSupport(null), () => Discovery.Plan(null, new PlanRequest()),
             () => Discovery.Plan(options, null), () => Discovery.FormatCodec(null), () => Discovery.FormatPolicy(null),
             () => PrefixIndex.Salt(null)})
      Check.Throws<ArgumentNullException>(call);
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Refused("kvc_step_begin", "tokenCounts: 2 of them for 1 sequences", () => cache.Begin(new[] {sequence}, new long[] {1, 1}));
      Check.Throws<ArgumentNullException>(() => cache.Begin(new Sequence[] {sequence, null}, new long[] {1, 1}));
      Check.Throws<ArgumentNullException>(() => cache.Begin((Sequence)null, 1));
      Check.Throws<ArgumentNullException>(() => cache.Prefixes.Publish(null, new long[] {1}, null));
      Check.Throws<ArgumentNullException>(() => cache.Export(sequence, null));
      Check.Throws<ArgumentNullException>(() => cache.Export((Sequence[])null));
      string none = "no sequences were named; without a list it is all of them";
      Refused("kvc_snapshot_export", none, () => cache.Export(new Sequence[0]));
      Refused("kvc_snapshot_export", none, () => cache.Export(new byte[1 << 16], new Sequence[0]));
      Refused("kvc_snapshot_save", none, () => cache.Save("nowhere", new Sequence[0]));
      Check.Equal(cache.Export(sequence).Length, cache.Export().Length, "bytes of all sequences, which are one");
      Check.Throws<ArgumentNullException>(() => cache.Save(null, sequence));
      Check.Throws<ArgumentNullException>(() => cache.Load(null));
      Check.Throws<KvcArgumentException>(() => cache.Begin(sequence, 1, new StepOptions {Buffers = Device.Cuda}));
      sequence.Dispose();
      Check.Equal(0, cache.Stats().Sequences, "sequences: a begin that failed gives its references back");
    }
  }

  // Nobody who computed a list that came out empty meant all tokens, no guard or the policy.
  public static void EmptyListsAreNotLeftOut() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Model.Run(cache, sequence, 300);
      foreach (long[] empty in new[] {null, new long[0]}) {
        KvcException e = Fails<KvcArgumentException>(
            "kvc_step_begin", () => cache.Begin(new[] {sequence}, new long[] {1}, null, empty));
        Check.That(e.Message.Contains("n_positions 0, expected 1"), e.Message);
        using (Step step = cache.Begin(sequence, 4, new StepOptions {PartialCommit = true})) {
          Model.Layer(step, 4);
          e = Fails<KvcArgumentException>("kvc_step_commit", () => step.Commit(empty));
          Check.That(e.Message.Contains("accepted"), e.Message);
        }
      }
      foreach (float[] empty in new[] {null, new float[0]}) {
        KvcException e = Fails<KvcArgumentException>("kvc_evict", () => sequence.Evict(new EvictOptions {Budget = 200}, empty));
        Check.That(e.Message.Contains("0 scores given"), e.Message);
      }
      Check.Equal("300 300", sequence.Length + " " + sequence.Live(0, 0), "length and live tokens after what was refused");
      Check.That(sequence.Evict(new EvictOptions {Budget = 200}).TokensEvicted > 0, "without scores nothing was evicted");
    }
  }

  // C sees lengths alone: four bytes of an int would be taken for a float.
  public static void SpansOfOtherElements() {
    float[] row = Model.Row(1, 1);
    var ints = new int[Model.Dim];
    var doubles = new double[Model.Dim / 2];
    var bits = new ushort[2 * Model.Dim];
    using (Cache cache = Model.Cache())
    using (Step step = cache.Begin(cache.CreateSequence(), 1)) {
      KvcException e = Fails<KvcArgumentException>("kvc_append", () => step.Append<int>(0, ints, ints));
      Check.That(e.Message.Contains("Int32") && e.Message.Contains("F32"), "the types are not named: " + e.Message);
      Fails<KvcArgumentException>("kvc_append", () => step.Append<double>(0, doubles, doubles));
      Fails<KvcArgumentException>("kvc_append", () => step.Append<ushort>(0, bits, bits));
      step.Append(0, row, row);
      Fails<KvcArgumentException>("kvc_attend", () => step.Attend<int, float>(0, ints, row));
      Fails<KvcArgumentException>("kvc_attend", () => step.Attend<float, int>(0, row, ints));
      step.Attend(0, row, new float[Model.Dim]);
      step.Attend<byte, byte>(0, new byte[4 * Model.Dim], new byte[4 * Model.Dim]);
    }
    foreach (Dtype dtype in new[] {Dtype.F16, Dtype.BF16})
      using (Cache cache = Model.Cache())
      using (Step step = cache.Begin(cache.CreateSequence(), 1, new StepOptions {KvDtype = dtype, QDtype = dtype})) {
        Fails<KvcArgumentException>("kvc_append", () => step.Append<short>(0, new short[Model.Dim], new short[Model.Dim]));
        Fails<KvcArgumentException>("kvc_append", () => step.Append(0, new float[Model.Dim / 2], new float[Model.Dim / 2]));
        step.Append<ushort>(0, new ushort[Model.Dim], new ushort[Model.Dim]);
        step.Attend<ushort, float>(0, new ushort[Model.Dim], new float[Model.Dim]);   // out has a type of its own
      }
  }
}

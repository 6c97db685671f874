using System;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using Kvc;

/// <summary>Each group of functions does through the classes what kvc.h says; that the numbers are right is conformance's matter.</summary>
static class FeatureTests {
  public static void TheLibraryTellsOfItself() {
    Check.Equal(Discovery.AbiVersion, 1, "ABI");
    Check.That(Discovery.Version.Split('.').Length == 3, "version " + Discovery.Version);
    Check.That(Discovery.BuildInfo.Length > 10, "build");
    Check.That(Discovery.Presets.Contains("int4"), "presets");
    Check.That(Discovery.Policies.Contains("h2o"), "policies");
    Check.That(Discovery.Targets.Contains("scalar"), "targets");
    Check.Equal("KVC_E_BUSY", Discovery.StatusName(Status.Busy), "name of a status");
    Check.Equal("unknown", Discovery.StatusName((Status)999), "name of none");
    Check.That(Discovery.FormatCodec("int4").StartsWith("k="), "codec");
    Check.That(Discovery.FormatPolicy("h2o:20%").StartsWith("h2o:"), "policy");
    Check.Equal(1, Discovery.DeviceCount(Device.Cpu), "processors");
    Check.That(Discovery.DescribeDevice(Device.Cpu, 0).Length > 0, "name of the processor");
    Check.That(File.Exists(Library.LoadedFrom), "loaded from " + Library.LoadedFrom);
    Check.Throws<InvalidOperationException>(() => Library.Path = "/elsewhere");
  }

  public static void OptionsHoldWhatTheyAreGiven() {
    var step = new StepOptions {KvDtype = Dtype.BF16, Strict = true, Stream = (IntPtr)0x1234, Buffers = Device.Cuda};
    Check.Equal(Dtype.BF16, step.KvDtype, "dtype");
    Check.That(step.Strict && !step.PartialCommit, "flags");
    Check.Equal((IntPtr)0x1234, step.Stream, "stream");
    var options = new CacheOptions {RopeTheta = 1e4, Keys = Keys.BeforeRope, Policy = "streaming:4+512"};
    Check.Equal(1e4, options.RopeTheta, "theta");
    Check.Equal(Keys.BeforeRope, options.Keys, "keys");
    Check.Equal("streaming:4+512", options.Policy, "policy");
  }

  public static void PlansAndLayers() {
    CacheOptions options = Model.Options();
    Plan uniform = Discovery.Plan(options, new PlanRequest {Tokens = 1000});
    Check.That(uniform.ArenaBytes > 0 && uniform.Fp16Bytes > uniform.RecordBytes, "a plan");
    var layers = new[] {new LayerOptions {Codec = "fp16"}, new LayerOptions()};
    Discovery.CheckSupport(options, layers);
    Plan mixed = Discovery.Plan(options, new PlanRequest {Tokens = 1000}, layers);
    Check.That(mixed.RecordBytes > uniform.RecordBytes, "a layer in 16 bits takes no more");
    using (var cache = new Cache(options, layers)) {
      Sequence sequence = cache.CreateSequence();
      Model.Run(cache, sequence, 1000);
      Check.Equal(mixed.RecordBytes, sequence.Stats().RecordBytes, "bytes as planned");
    }
  }

  public static void ForksTruncationAndReadBack() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence(new SequenceOptions {FirstPosition = 10});
      Model.Run(cache, sequence, 200);
      Check.Equal(210, sequence.Length, "length");
      Check.That(sequence.ExactFloor > 10 && sequence.StepLimit > 1000, "floor and limit");
      Sequence fork = sequence.Fork(210);
      fork.Truncate(fork.ExactFloor);
      fork.Truncate(50, Cut.Inexact);
      Check.Equal(50, fork.Length, "a fork's length");
      Check.Equal(210, sequence.Length, "the source's length");
      var positions = new long[sequence.Live(1, 0)];
      sequence.ReadPositions(1, 0, positions);
      Check.That(positions.SequenceEqual(Enumerable.Range(10, 200).Select(i => (long)i)), "positions");
      var counts = new long[200];
      sequence.ReadCounts(1, 0, counts);
      Check.That(counts.All(count => count == 1), "counts");
      ReadsOfMoreRoom(sequence);
      var keys = new float[200 * Model.Dim];
      sequence.Read(1, 0, Part.Keys, 0, 200, keys);
      Check.That(keys.Zip(Model.Row(200, 1), (a, b) => Math.Abs(a - b)).Max() < 0.2f, "keys read back");
      var codes = new byte[sequence.ReadCodes(1, 0, Part.Values) * Model.Dim];
      sequence.ReadCodes(1, 0, Part.Values, codes);
      Check.That(codes.Length > 0 && codes.All(code => code < 16), "codes of 4 bits");
    }
  }

  // A list can be shorter than its room, as after an eviction: its end is told, and what lies behind it stays.
  static void ReadsOfMoreRoom(Sequence sequence) {
    foreach (ReadNumbers read in new ReadNumbers[] {sequence.ReadPositions, sequence.ReadMass, sequence.ReadCounts, sequence.ReadRungs}) {
      var numbers = Enumerable.Repeat(-7L, 210).ToArray();
      Check.Throws<KvcArgumentException>(() => read(1, 0, new Span<long>(numbers, 0, 199)));
      Check.Throws<KvcArgumentException>(() => read(1, 1, numbers));
      Check.That(numbers.All(number => number == -7), "a call that failed wrote");
      Check.Equal(200, read(1, 0, numbers), "numbers of 200 live tokens");
      Check.That(!numbers.Take(200).Contains(-7) && numbers.Skip(200).All(number => number == -7), "the end of the list");
    }
    Check.Equal(0, sequence.Cache.CreateSequence().ReadPositions(0, 0, default(Span<long>)), "positions of an empty sequence");
  }

  delegate long ReadNumbers(long layer, long head, Span<long> to);

  public static void EvictionMergeMassAndSteppingDown() {
    CacheOptions options = Model.Options();
    options.Codec = "int8/int2";
    using (var cache = new Cache(options)) {
      Sequence sequence = cache.CreateSequence();
      using (Step step = cache.Begin(sequence, 640, new StepOptions {Accumulate = true})) {
        Model.Layer(step, 640);
        step.Commit();
      }
      var mass = new long[640];
      sequence.ReadMass(0, 0, mass);
      Check.That(mass.Sum() > 639L << 30, "mass of 640 queries");
      StepDownReport down = sequence.StepDown(new StepDownOptions {Recent = 300});
      var rungs = new long[640];
      sequence.ReadRungs(0, 0, rungs);
      Check.That(down.Pages > 0 && rungs.Contains(1) && rungs.Contains(0) && rungs.Contains(-1), "rungs");
      int[] clusters = Enumerable.Range(0, 640).Select(i => i >= 64 && i < 256 ? i - i % 4 : i).ToArray();
      EvictReport merged = sequence.Merge(clusters, new MergeOptions {LayerBegin = 0, LayerEnd = 1});
      Check.That(merged.TokensMerged > 100 && cache.Stats().TokensMerged == merged.TokensMerged, "merged tokens");
      EvictReport evicted = sequence.Evict(new EvictOptions {Budget = 400, LayerBegin = 1, LayerEnd = 2}, new float[640]);
      Check.Equal(240, evicted.TokensEvicted, "evicted by scores");
      long[] keep = {0, 5, 600};
      Check.That(sequence.EvictKeep(keep, new EvictOptions {LayerBegin = 1, LayerEnd = 2}).TokensEvicted > 0, "evicted by positions");
      sequence.SetPrompt(10);
    }
  }

  public static void Prefixes() {
    using (Cache cache = Model.Cache()) {
      Sequence sequence = cache.CreateSequence();
      Model.Run(cache, sequence, 200);
      long[] ids = Enumerable.Range(0, 200).Select(i => (long)i).ToArray();
      cache.Prefixes.Publish(sequence, ids, PrefixIndex.Salt("a"), new PrefixOptions {Pinned = true});
      Sequence hit = cache.Prefixes.Lookup(ids.Concat(new long[] {7}).ToArray(), PrefixIndex.Salt("a"), out PrefixHit found);
      Check.Equal(200, found.Tokens, "tokens of a hit");
      Check.Equal(200, hit.Length, "length of a hit");
      Sequence miss = cache.Prefixes.Lookup(ids, PrefixIndex.Salt("b"), out PrefixHit none);
      Check.Equal(0, none.Tokens + miss.Length, "another tenant's lookup");
      PrefixStats stats = cache.Prefixes.Stats();
      Check.That(stats.Hits == 1 && stats.Misses == 1 && stats.Entries == 1, "statistics");
      Check.Throws<KvcNoMemoryException>(() => cache.Prefixes.SetBudget(1));
      Check.Equal(1, cache.Prefixes.Remove(default(ReadOnlySpan<long>), PrefixIndex.Salt("a")), "removed");
      cache.Prefixes.Clear();
    }
  }

  public static void Snapshots() {
    string file = Path.GetTempFileName();
    using (Cache cache = Model.Cache()) {
      Sequence a = cache.CreateSequence(), b = cache.CreateSequence();
      Model.Run(cache, a, 200);
      Model.Run(cache, b, 5);
      byte[] bytes = cache.Export(b, a);
      Sequence[] made = cache.Import(bytes);
      Check.Equal("5 200", string.Join(" ", made.Select(one => one.Length)), "lengths of the imported");
      Check.Equal(2, cache.Import(bytes, Span<Sequence>.Empty), "sequences in the bytes");
      cache.Save(file, a);
      Check.Equal(200, cache.Load(file)[0].Length, "length of the loaded");
      Check.That(Model.Run(cache, a, 1).SequenceEqual(Model.Run(cache, made[1], 1)), "the imported sequence goes on differently");
      Check.Equal(5, cache.Stats().Sequences, "sequences");
      GC.KeepAlive(made);
    }
    File.Delete(file);
  }

  delegate void Call();

  [DllImport("libwitness.so")]
  static extern void witness_between(Call call);

  // What shrinks between the question how much there is and the answer is given as long as it is then.
  public static void SnapshotsThatShrinkOnTheWay() {
    string file = Path.GetTempFileName();
    using (Cache cache = Model.Cache()) {
      Sequence a = cache.CreateSequence(), b = cache.CreateSequence();
      Model.Run(cache, a, 200);
      Model.Run(cache, b, 100);
      cache.Save(file, a, b);
      Call replace = () => cache.Save(file, a);
      witness_between(replace);
      Sequence[] made = cache.Load(file);
      Check.Equal("200", string.Join(" ", made.Select(one => one == null ? "null" : one.Length.ToString())), "the loaded");
      made[0].Destroy();
      Call end = b.Destroy;
      witness_between(end);
      byte[] bytes = cache.Export();
      Check.Equal(cache.Export().Length, bytes.Length, "bytes of the one sequence that was left");
      Check.Equal(1, cache.Import(bytes).Length, "sequences in them");
      GC.KeepAlive(replace);
      GC.KeepAlive(end);
    }
    File.Delete(file);
  }

  public static void OtherElementTypesAndAddresses() {
    using (Cache cache = Model.Cache()) {
      Sequence spans = cache.CreateSequence(), addresses = cache.CreateSequence();
      var half = new StepOptions {KvDtype = Dtype.F16, QDtype = Dtype.F16, OutDtype = Dtype.F16};
      ushort[] row = Enumerable.Range(0, Model.Dim).Select(i => (ushort)(0x3c00 + i)).ToArray();   // a little above 1
      var output = new ushort[Model.Dim];
      IntPtr native = Marshal.AllocHGlobal(2 * 2 * Model.Dim);
      Marshal.Copy(row.Select(bits => (short)bits).ToArray(), 0, native, Model.Dim);
      IntPtr result = native + 2 * Model.Dim;
      using (Step first = cache.Begin(spans, 1, half))
      using (Step second = cache.Begin(addresses, 1, half)) {
        first.Append<ushort>(0, row, row);
        first.Attend<ushort, ushort>(0, row, output);
        second.Append(0, native, 2 * Model.Dim, native, 2 * Model.Dim);
        second.Attend(0, native, 2 * Model.Dim, result, 2 * Model.Dim, IntPtr.Zero, 0);
      }
      for (int i = 0; i < Model.Dim; i++) Check.Equal(output[i], (ushort)Marshal.ReadInt16(result, 2 * i), "one token attends to itself");
      Check.That(Math.Abs(row[3] - output[3]) <= 4, "and gets its own value, but for the rounding of rotations");
      Marshal.FreeHGlobal(native);
    }
  }

  public static void SpeculativeStepsAndBatches() {
    using (Cache cache = Model.Cache()) {
      Sequence a = cache.CreateSequence(), b = cache.CreateSequence();
      var options = new StepOptions {PartialCommit = true};
      using (Step step = cache.Begin(new[] {a, b}, new long[] {3, 2}, options, new long[] {0, 0})) {
        Model.Layer(step, 5);
        step.Commit(new long[] {1, 2});
      }
      Check.Equal("1 2", a.Length + " " + b.Length, "lengths");
      var many = Enumerable.Range(0, 200).Select(i => cache.CreateSequence()).ToArray();
      using (Step step = cache.Begin(many, many.Select(one => 1L).ToArray())) {
        Model.Layer(step, 200);
        step.Commit();
      }
      Check.That(many.All(one => one.Length == 1), "a batch of 200");
      cache.Synchronize();
    }
  }

  // The device is not there: what would take a span for an address of it is refused, addresses pass on.
  public static void SpansAreNoDeviceMemory() {
    var step = new Step(new Kvc.Raw.StepHandle(), new StepOptions {Buffers = Device.Cuda});
    Check.Throws<InvalidOperationException>(() => step.Append(0, new float[1], new float[1]));
    Check.Throws<InvalidOperationException>(() => step.Attend(0, new float[1], new float[1]));
    Check.Throws<KvcHandleException>(() => step.Append(0, IntPtr.Zero, 0, IntPtr.Zero, 0));
  }
}

package kvc;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;

/** Each call does what kvc.h says, as far as one can see it from here. */
final class FeatureTests {
  private static LongBuffer ids(int n) { return Direct.of(LongStream.range(0, n).toArray()); }

  static void plansAreExact() {
    CacheOptions options = Fixture.options().arenaTokens(0);
    Plan plan = Kvc.plan(options, new PlanRequest().tokens(256).sequences(2).budgetBytes(1 << 24));
    Expect.that(plan.maxTokens() > 256 && plan.maxSequences() > 2 && plan.codecBits() > 4 && plan.recordBytes() < plan.fp16Bytes(), plan.toString());
    try (Cache cache = new Cache(options.arenaBytes(plan.arenaBytes())); Sequence a = cache.newSequence(); Sequence b = cache.newSequence()) {
      Fixture.grow(cache, a, 256);
      Fixture.grow(cache, b, 256);
      Expect.equal(plan.recordBytes(), cache.stats().recordBytes());
      Expect.thrown(KvcException.NoMemory.class, () -> {
        while (true) Fixture.grow(cache, a, 64);
      });
    }
  }

  static void layersDiffer() {
    LayerOptions[] layers = {new LayerOptions().codec("int8"), new LayerOptions().slidingWindow(16)};
    Kvc.requireSupported(Fixture.options(), layers);
    Expect.thrown(KvcException.Argument.class, () -> Kvc.requireSupported(Fixture.options(), layers[0]));
    Expect.thrown(KvcException.Argument.class, () -> Kvc.requireSupported(Fixture.options().codec("int99")));
    try (Cache cache = new Cache(Fixture.options(), layers); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 256);
      ByteBuffer codes = Direct.bytes(sequence.codes(0, 0, Sequence.Part.KEYS, null) * Fixture.DIM);
      Expect.that(sequence.codes(0, 0, Sequence.Part.KEYS, codes) > 0, "no codes");
      boolean wide = false;
      for (int i = 0; i < codes.capacity(); i++) wide |= (codes.get(i) & 0xff) > 15;
      Expect.that(wide, "8-bit codes fit 4 bits");
    }
  }

  static void sequencesForkAndTruncate() {
    try (Cache cache = new Cache(Fixture.options().codec("fp16")); Sequence sequence = cache.newSequence(new SequenceOptions().firstPosition(10))) {
      Fixture.grow(cache, sequence, 20);
      Expect.equal(30L, sequence.length());
      Expect.equal(10L, sequence.exactFloor());
      Expect.that(sequence.stepLimit() > 1000, "step limit " + sequence.stepLimit());
      try (Sequence fork = sequence.fork(25)) {
        fork.truncate(15);
        Expect.equal(15L, fork.length());
        Expect.thrown(KvcException.Range.class, () -> fork.truncate(9));
        Expect.equal(cache, fork.cache());
      }
      readsOfMoreRoom(sequence);
      LongBuffer positions = Direct.longs(20);
      Expect.equal(20L, sequence.positions(1, 1, positions));
      for (int i = 0; i < 20; i++) Expect.equal(10L + i, positions.get(i));
      FloatBuffer keys = Direct.floats(20 * Fixture.DIM);
      sequence.read(0, 1, Sequence.Part.KEYS, 0, 20, keys);
      FloatBuffer given = Fixture.keys(0, 10, 20).asFloatBuffer();
      Expect.that(Math.abs(keys.get(5) - given.get(Fixture.DIM + 5)) < 0.01, keys.get(5) + " for " + given.get(Fixture.DIM + 5));
      sequence.promptEnd(40);
      Expect.thrown(KvcException.Argument.class, () -> sequence.positions(0, 0, Direct.longs(19)));
      Expect.equal(20L, sequence.stats().tokens());
    }
  }

  interface Numbers {
    long into(long layer, long head, LongBuffer out);
  }

  /** A list can be shorter than its room, as after an eviction: its end is told, and what lies behind it stays. */
  private static void readsOfMoreRoom(Sequence sequence) {
    for (Numbers read : new Numbers[] {sequence::positions, sequence::counts, sequence::rungs, sequence::mass}) {
      LongBuffer room = Direct.longs(25);
      for (int i = 0; i < 25; i++) room.put(i, -7);
      Expect.thrown(KvcException.Argument.class, () -> read.into(1, 1, room.duplicate().limit(19)));
      for (int i = 0; i < 25; i++) Expect.equal(-7L, room.get(i));
      Expect.equal(20L, read.into(1, 1, room));
      for (int i = 0; i < 25; i++) Expect.equal(i >= 20, room.get(i) == -7);
    }
  }

  static void evictionsLeaveTheBudget() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 512);
      EvictReport first = sequence.evict(new EvictOptions().budget(256).layers(0, 1));
      Expect.equal(256L * Fixture.KV_HEADS, first.tokensEvicted());
      Expect.equal(256L, sequence.live(0, 0));
      Expect.equal(512L, sequence.live(1, 0));
      FloatBuffer scores = Direct.floats(512);
      for (int i = 0; i < 512; i++) scores.put(i, i == 100 ? 1 : 0);
      sequence.evict(scores, new EvictOptions().budget(200).layers(1, 2).heads(1, 2));
      LongBuffer positions = Direct.longs(200);
      sequence.positions(1, 1, positions);
      boolean kept = false;
      for (int i = 0; i < 200; i++) kept |= positions.get(i) == 100;
      Expect.that(kept, "the token with the highest score is gone");
      Expect.equal(512L, sequence.live(1, 0));
      sequence.keep(Direct.of(50L, 51L, 52L), new EvictOptions().layers(1, 2).heads(0, 1));
      long live = sequence.live(1, 0);
      Expect.that(live > 3 && live < 200, "live " + live);
      Expect.thrown(KvcException.Range.class, () -> sequence.keep(Direct.of(9999L), null));
      Expect.equal(first.tokensEvicted() + 312 + 512 - live, cache.stats().tokensEvicted());
    }
  }

  static void policiesHaveBudgets() {
    try (Cache cache = new Cache(Fixture.options().policy("streaming:4+252")); Sequence sequence = cache.newSequence()) {
      sequence.budget(400);
      for (int i = 0; i < 10; i++) Fixture.grow(cache, sequence, 64);
      Expect.that(sequence.live(0, 0) > 300, "live " + sequence.live(0, 0));
      sequence.budget(0);
      sequence.evict(null);
      Expect.equal(256L, sequence.live(0, 0));
    }
  }

  static void mergesCount() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 256);
      int[] clusters = new int[Fixture.LAYERS * Fixture.KV_HEADS * 256];
      for (int i = 0; i < clusters.length; i++) clusters[i] = i % 256 == 21 ? 20 : i % 256;
      EvictReport report = sequence.merge(Direct.of(clusters), new MergeOptions().valuesOnly(true));
      Expect.equal((long) Fixture.LAYERS * Fixture.KV_HEADS, report.tokensMerged());
      LongBuffer counts = Direct.longs(255);
      sequence.counts(0, 0, counts);
      Expect.equal(2L, counts.get(20));
      Expect.equal(1L, counts.get(21));
      Expect.equal(report.tokensMerged(), cache.stats().tokensMerged());
    }
  }

  static void laddersStepDown() {
    try (Cache cache = new Cache(Fixture.options().codec("int8/int4")); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 512);
      StepDownReport report = sequence.stepDown(new StepDownOptions().rung(1));
      Expect.that(report.pages() > 0 && report.tokensRequantized() > 0 && report.bytesFreed() > 0, report.toString());
      Expect.equal(report.recordBytes(), sequence.stats().recordBytes());
      LongBuffer rungs = Direct.longs(512);
      sequence.rungs(0, 0, rungs);
      Expect.equal(-1L, rungs.get(511));
      Expect.equal(1L, rungs.get(64));
    }
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      Expect.thrown(KvcException.Unsupported.class, () -> sequence.stepDown(null));
    }
  }

  static void massIsObserved() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 8, new StepOptions().accumulate(true));
      LongBuffer mass = Direct.longs(8);
      sequence.mass(0, 0, mass);
      long sum = 0;
      for (int i = 0; i < 8; i++) sum += mass.get(i);
      Expect.that(Math.abs(sum / 1073741824.0 - 8 * 2) < 0.01, "mass of 8 tokens in 2 query heads: " + sum / 1073741824.0);
    }
  }

  static void speculationCommitsAPart() {
    try (Cache cache = new Cache(Fixture.options()); Sequence a = cache.newSequence(); Sequence b = cache.newSequence()) {
      try (Step step = cache.begin(List.of(a, b), new long[] {3, 2}, new StepOptions().partialCommit(true))) {
        for (int layer = 0; layer < Fixture.LAYERS; layer++) step.append(layer, Fixture.keys(layer, 0, 5), Fixture.values(layer, 0, 5));
        Expect.thrown(KvcException.Argument.class, () -> step.commit(3));
        Expect.thrown(KvcException.Argument.class, () -> step.commit(4, 1));
        step.commit(2, 0);
      }
      Expect.equal(2L, a.length());
      Expect.equal(0L, b.length());
    }
  }

  static void stepsGoInOrder() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence(); Step step = cache.begin(sequence, 1)) {
      ByteBuffer k = Fixture.keys(0, 0, 1), nan = Direct.bytes(k.remaining());
      Expect.thrown(KvcException.Order.class, () -> step.attend(0, Fixture.queries(0, 0, 1), Fixture.output(1)));
      Expect.thrown(KvcException.Order.class, step::commit);
      nan.asFloatBuffer().put(0, Float.NaN);
      Expect.thrown(KvcException.Nonfinite.class, () -> step.append(0, nan, k));
      KvcException e = Expect.thrown(KvcException.Argument.class, () -> step.append(40, k, k));
      Expect.that(e.getMessage().contains("40"), e.getMessage());
      Expect.thrown(KvcException.Busy.class, () -> cache.begin(sequence, 1));
      step.abort();
      Expect.equal(0L, sequence.length());
    }
  }

  static void halfPrecisionBuffersWork() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      StepOptions options = new StepOptions().kvDtype(StepOptions.Dtype.F16).qDtype(StepOptions.Dtype.BF16).outDtype(StepOptions.Dtype.F16)
          .kTokenStride(Fixture.KV_HEADS * Fixture.DIM + 8).strict(true);
      try (Step step = cache.begin(List.of(sequence), new long[] {2}, options)) {
        ByteBuffer k = Direct.bytes(2 * 2 * (Fixture.KV_HEADS * Fixture.DIM + 8)), v = Direct.bytes(2 * 2 * Fixture.KV_HEADS * Fixture.DIM);
        ByteBuffer q = Direct.bytes(2 * 2 * Fixture.Q_HEADS * Fixture.DIM);
        for (int layer = 0; layer < Fixture.LAYERS; layer++) {
          step.append(layer, k, v);
          step.attend(layer, q, q);
        }
        step.commit();
      }
      Expect.equal(2L, sequence.length());
    }
  }

  static void sinksAndFrequenciesAreSet() {
    CacheOptions options = Fixture.options().keys(CacheOptions.Keys.BEFORE_ROPE).ropeTheta(10000).ropePairs(CacheOptions.RopePairs.INTERLEAVED)
        .positions(CacheOptions.Positions.IN_CACHE);
    try (Cache cache = new Cache(options)) {
      cache.ropeFrequencies(0, Direct.of(new double[Fixture.DIM / 2]));
      Expect.thrown(KvcException.Argument.class, () -> cache.ropeFrequencies(0, Direct.of(1.0)));
      ByteBuffer without, with;
      try (Sequence sequence = cache.newSequence()) {
        without = Fixture.grow(cache, sequence, 2);
        Expect.thrown(KvcException.Order.class, () -> cache.ropeFrequencies(0, Direct.of(new double[Fixture.DIM / 2])));
      }
      cache.sinkLogits(1, Direct.of(1f, 1f, 1f, 1f));
      try (Sequence sequence = cache.newSequence()) {
        with = Fixture.grow(cache, sequence, 2);
      }
      Expect.that(!without.equals(with), "sink logits changed nothing");
      cache.sinkLogits(1, null);
      try (Sequence sequence = cache.newSequence()) {
        Expect.equal(without, Fixture.grow(cache, sequence, 2));
      }
    }
  }

  static void prefixesAreFound() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      Fixture.grow(cache, sequence, 200);
      sequence.publish(ids(200), Direct.of("tenant"), new PrefixOptions().pinned(true));
      PrefixHit hit = cache.lookup(ids(250), Direct.of("tenant"), null), miss = cache.lookup(ids(250), null, new SequenceOptions());
      Expect.equal(200L, hit.tokens());
      Expect.equal(200L, hit.shared());
      Expect.equal(200L, hit.sequence().length());
      Expect.equal(0L, miss.tokens());
      Expect.equal(1L, cache.prefixStats().hits());
      Expect.equal(1L, cache.prefixStats().misses());
      Expect.thrown(KvcException.NoMemory.class, () -> cache.prefixBudget(1));
      Expect.equal(1L, cache.removePrefixes(ids(0), Direct.of("tenant")));
      sequence.publish(ids(200), null, null);
      cache.prefixBudget(1 << 20);
      Expect.equal(1L << 20, cache.prefixStats().budgetBytes());
      cache.clearPrefixes();
      Expect.equal(0L, cache.prefixStats().entries());
      hit.sequence().close();
      miss.sequence().close();
    }
  }

  static void snapshotsComeBack() throws IOException {
    Path file = Files.createTempFile("kvc-", ".snapshot");
    try (Cache cache = new Cache(Fixture.options()); Sequence a = cache.newSequence(); Sequence b = cache.newSequence()) {
      Fixture.grow(cache, a, 70);
      Fixture.grow(cache, b, 5);
      ByteBuffer both = cache.exportSnapshot(), one = cache.exportSnapshot(List.of(b));
      Expect.equal(2L, cache.checkSnapshot(both));
      Expect.equal((long) one.remaining(), cache.exportSnapshot(List.of(b), null));
      Expect.thrown(KvcException.Argument.class, () -> cache.exportSnapshot(null, Direct.bytes(8)));
      String none = "no sequences were named; without a list it is all of them";
      BufferTests.refused("kvc_snapshot_export", none, () -> cache.exportSnapshot(List.of()));
      BufferTests.refused("kvc_snapshot_export", none, () -> cache.exportSnapshot(List.of(), Direct.bytes(8)));
      BufferTests.refused("kvc_snapshot_save", none, () -> cache.saveSnapshot(file, List.of()));
      List<Sequence> all = cache.importSnapshot(both);
      Expect.equal(List.of(70L, 5L), all.stream().map(Sequence::length).toList());
      Expect.equal(Fixture.grow(cache, a, 1), Fixture.grow(cache, all.get(0), 1));
      Expect.thrown(KvcException.Argument.class, () -> cache.importSnapshot(both, 1));
      one.put(one.limit() / 2, (byte) ~one.get(one.limit() / 2));
      Expect.thrown(KvcException.Corrupt.class, () -> cache.importSnapshot(one));
      cache.saveSnapshot(file, List.of(b));
      Expect.equal(5L, cache.loadSnapshot(file).get(0).length());
      cache.saveSnapshot(file);
      Expect.equal(5, cache.loadSnapshot(file).size());
      Expect.thrown(KvcException.Io.class, () -> cache.loadSnapshot(file.resolveSibling("kvc-there-is-none")));
    } finally {
      Files.deleteIfExists(file);
    }
  }

  /** U+1F600 is two chars in Java, four bytes in the name of a file, and six in what JNI takes for UTF-8. */
  static void textIsTheSameInC() throws IOException {
    Path folder = Files.createTempDirectory("kvc-"), file = folder.resolve("\u00e9\uD83D\uDE00.kvc"), lost = folder.resolve("lost-\uD83D\uDE00");
    try (Cache cache = new Cache(Fixture.options())) {
      Sequence sequence = cache.newSequence();
      cache.saveSnapshot(file, List.of(sequence));
      Expect.that(Files.exists(file), "the file has another name");
      Expect.equal(1, cache.loadSnapshot(file).size());
      Expect.that(Expect.thrown(KvcException.Io.class, () -> cache.loadSnapshot(lost)).getMessage().contains(lost.toString()), "the message is garbled");
      CacheOptions calibrated = Fixture.options().codec("@" + lost);
      Expect.that(Expect.thrown(KvcException.Io.class, () -> new Cache(calibrated)).getMessage().contains(lost.toString()), "the message is garbled");
      Expect.equal("@" + lost, calibrated.raw.getCodec());
      for (String broken : List.of("\u00e9nt4\0x", "@\uD83D", "@\uDE00x")) {
        String why = broken.indexOf(0) > 0 ? "byte 5 is a NUL" : "a text with half a surrogate pair";
        BufferTests.refused("kvc_options", "codec: " + why, () -> calibrated.codec(broken));
        BufferTests.refused("kvc_options", "policy: " + why, () -> calibrated.policy(broken));
        BufferTests.refused("kvc_layer", "codec: " + why, () -> new LayerOptions().codec(broken));
        BufferTests.refused("kvc_codec_format", "codec: " + why, () -> Kvc.formatCodec(broken));
        BufferTests.refused("kvc_policy_format", "policy: " + why, () -> Kvc.formatPolicy(broken));
      }
      Expect.equal("@" + lost, calibrated.raw.getCodec());
    } finally {
      Files.deleteIfExists(file);
      Files.delete(folder);
    }
  }

  /** A path of a zip names no file that C could open. */
  static void pathsOfOtherFileSystemsAreRefused() throws IOException {
    Path zip = Files.createTempFile("kvc-", ".zip");
    Files.delete(zip);
    try (Cache cache = new Cache(Fixture.options()); var inside = FileSystems.newFileSystem(zip, Map.of("create", "true"))) {
      Expect.thrown(UnsupportedOperationException.class, () -> cache.saveSnapshot(inside.getPath("/kvc")));
      Expect.thrown(UnsupportedOperationException.class, () -> cache.loadSnapshot(inside.getPath("/kvc")));
    } finally {
      Files.deleteIfExists(zip);
    }
  }

  static void theHostHasNoDeviceMemory() {
    try (Cache cache = new Cache(Fixture.options()); Sequence sequence = cache.newSequence()) {
      cache.synchronize();
      for (DeviceBuffer.Kind kind : DeviceBuffer.Kind.values())
        Expect.equal("kvc_buffer_create", Expect.thrown(KvcException.Unsupported.class, () -> cache.newBuffer(kind, 64)).operation());
      Expect.equal("kvc_graph_create", Expect.thrown(KvcException.Unsupported.class, () -> cache.newGraph(new long[] {1}, 64, 0, 0)).operation());
      Expect.thrown(KvcException.class, () -> cache.copy(0, Device.CUDA, 0, Device.CPU, 64));
      Expect.thrown(KvcException.class, () -> cache.begin(List.of(sequence), new long[] {1}, new StepOptions().buffers(Device.CUDA).stream(1)));
    }
  }
}

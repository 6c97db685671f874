package kvc;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

/** Runs one operation script over the classes of this package, and digests everything that it observes: docs/SCRIPTS.md. */
final class Replay implements AutoCloseable {
  interface Verb {
    void run(Replay replay, ScriptLine line);
  }

  static final Map<String, Verb> VERBS = new HashMap<>();

  static {
    VERBS.put("layer", (r, line) -> r.shapes.lines.put(Long.parseLong(line.name(0)), line));
    VERBS.put("create", Replay::create);
    VERBS.put("plan", Replay::plan);
    VERBS.put("sink_logits", Replay::sinkLogits);
    VERBS.put("seq", Replay::seq);
    VERBS.put("fork", Replay::fork);
    VERBS.put("truncate", (r, line) -> r.named(line).truncate(line.number("length"), cut(line)));
    VERBS.put("destroy", (r, line) -> r.named(line).destroy());
    VERBS.put("prompt", (r, line) -> r.named(line).promptEnd(line.number("end")));
    VERBS.put("evict", Replay::evict);
    VERBS.put("keep", (r, line) -> r.report(r.named(line).keep(Direct.of(line.list("positions")), evictOptions(line)), false));
    VERBS.put("merge", Replay::merge);
    VERBS.put("step_down", Replay::stepDown);
    VERBS.put("export", Replay::exportSnapshot);
    VERBS.put("import", Replay::importSnapshot);
    VERBS.put("read", Replay::read);
    VERBS.put("codes", Replay::codes);
    VERBS.put("mass", (r, line) -> r.perToken(line, r.named(line)::mass));
    VERBS.put("positions", (r, line) -> r.perToken(line, r.named(line)::positions));
    VERBS.put("counts", (r, line) -> r.perToken(line, r.named(line)::counts));
    VERBS.put("rungs", (r, line) -> r.perToken(line, r.named(line)::rungs));
    VERBS.put("live", (r, line) -> r.saw(r.named(line).live(line.number("layer"), line.number("head"))));
    VERBS.put("length", (r, line) -> r.saw(r.named(line).length()));
    VERBS.put("floor", (r, line) -> r.saw(r.named(line).exactFloor()));
    VERBS.put("stats", Replay::stats);
    VERBS.put("publish", Replay::publish);
    VERBS.put("lookup", Replay::lookup);
    VERBS.put("unpublish", (r, line) -> r.saw(r.cache.removePrefixes(Direct.of(ScriptNumbers.promptTokens(line)), salt(line))));
    VERBS.put("prefix_clear", (r, line) -> r.cache.clearPrefixes());
    VERBS.put("prefix_budget", (r, line) -> r.cache.prefixBudget(line.number("bytes")));
    VERBS.put("prefix_stats", Replay::prefixStats);
    ReplaySteps.addVerbs(VERBS);
  }

  final ScriptShapes shapes = new ScriptShapes();
  final ReplaySteps steps = new ReplaySteps(this);
  final List<ByteBuffer> seen = new ArrayList<>(); // what the operation let a caller see
  Cache cache = new Cache(new Cache.State(0, null, 0));
  private final String target;
  private final long threads;
  private final MessageDigest digest;
  private final Map<String, Sequence> sequences = new HashMap<>();
  private final Map<Sequence, Long> data = new HashMap<>(), firstPositions = new HashMap<>();
  private final Map<String, ByteBuffer> snapshots = new HashMap<>();

  Replay(String target, long threads) {
    this.target = target;
    this.threads = threads;
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // every Java has it
    }
  }

  /** Runs a line; gives null if its status is one of those expected, otherwise what was wrong. */
  String run(ScriptLine line) {
    Verb verb = VERBS.get(line.verb);
    if (verb == null) throw new ScriptLine.Nonsense("unknown operation " + line.verb);
    seen.clear();
    Status status = Status.OK;
    String message = "";
    try {
      verb.run(this, line);
    } catch (KvcException e) {
      status = e.status();
      message = ": " + e.getMessage();
      seen.clear();
    }
    digest.update(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(status.code()).flip());
    for (ByteBuffer bytes : seen) digest.update(bytes);
    return line.expects(status) ? null : line.verb + " gave " + status + ", expected " + line.expected() + message;
  }

  String digest() { return HexFormat.of().formatHex(digest.digest()); }

  @Override
  public void close() { cache.close(); }

  void saw(long... numbers) {
    ByteBuffer bytes = ByteBuffer.allocate(8 * numbers.length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asLongBuffer().put(numbers);
    seen.add(bytes);
  }

  /** The sequence of a name; one that was never made has the handle 0. */
  Sequence sequence(String name) {
    Sequence sequence = sequences.get(name);
    return sequence == null ? new Sequence(cache, 0) : sequence;
  }

  private Sequence named(ScriptLine line) { return sequence(line.name(0)); }

  long data(Sequence sequence) { return data.getOrDefault(sequence, 0L); }

  private long firstPosition(Sequence sequence) { return firstPositions.getOrDefault(sequence, 0L); }

  private void made(String name, Sequence sequence, long ownData, long first) {
    sequences.put(name, sequence);
    data.put(sequence, ownData);
    firstPositions.put(sequence, first);
  }

  // ---- Cache ----

  private void create(ScriptLine line) {
    if (cache.handle != 0) throw new ScriptLine.Nonsense("a script has one cache");
    shapes.create(line);
    shapes.options.threads(threads).target(target);
    cache = new Cache(shapes.options, shapes.layers);
  }

  private void plan(ScriptLine line) {
    PlanRequest request = new PlanRequest().tokens(line.number("tokens")).sequences(line.number("sequences"))
        .stepTokens(line.number("step_tokens")).budgetBytes(line.number("budget_bytes")).partialCommit(line.flag("partial_commit"));
    Plan p = Kvc.plan(shapes.options, request, shapes.layers);
    saw(p.arenaBytes(), p.slabBytes(), p.recordBytes(), p.fp16Bytes(), p.maxTokens(), p.maxSequences());
  }

  private void sinkLogits(ScriptLine line) {
    long n = line.number("n", shapes.of(line).qHeads()), layer = line.number("layer");
    ByteBuffer logits = Direct.bytes(4 * n);
    long row = ScriptNumbers.row(line.number("seed"), 0, layer, ScriptNumbers.SINK_LOGITS, 0);
    ScriptNumbers.putRow(logits, StepOptions.Dtype.F32, line.word("kind", "normal"), row, 1, n);
    cache.sinkLogits(layer, logits.flip().asFloatBuffer());
  }

  private void stats(ScriptLine line) {
    if (!line.names.isEmpty()) {
      SequenceStats s = named(line).stats();
      saw(s.tokens(), s.recordBytes(), s.sharedBytes(), s.fp16Bytes());
      return;
    }
    CacheStats s = cache.stats();
    saw(s.arenaBytes(), s.boundBytes(), s.recordBytes(), s.sinkBytes(), s.windowBytes(), s.codeBytes(), s.reservedBytes(), s.sideBytes(),
        s.sequences(), s.openSteps(), s.tokensAppended(), s.tokensEvicted(), s.pagesQuantized(), s.tokensRequantized());
  }

  // ---- Sequences ----

  private static SequenceOptions sequenceOptions(ScriptLine line) {
    return new SequenceOptions().firstPosition(line.number("first_position")).promptLength(line.number("prompt_length"));
  }

  private static Sequence.Cut cut(ScriptLine line) {
    return line.word("cut", "exact").equals("inexact") ? Sequence.Cut.INEXACT : Sequence.Cut.EXACT;
  }

  private void seq(ScriptLine line) {
    made(line.name(0), cache.newSequence(sequenceOptions(line)), line.number("data"), line.number("first_position"));
  }

  private void fork(ScriptLine line) {
    Sequence from = sequence(line.name(1));
    Sequence fork = from.fork(line.number("length"), cut(line));
    made(line.name(0), fork, line.number("data", data(from)), firstPosition(from));
  }

  /** Tokens that the sequence has had; a stale one has none. */
  private int tokens(Sequence sequence) {
    try {
      return Math.toIntExact(sequence.length() - firstPosition(sequence));
    } catch (KvcException.Handle stale) {
      return 0;
    }
  }

  // ---- Evict, merge, precision ----

  private static EvictOptions evictOptions(ScriptLine line) {
    ScriptLine.Range layers = line.range("layers"), heads = line.range("heads");
    return new EvictOptions().budget(line.number("budget")).recent(line.number("recent")).layers(layers.begin(), layers.end())
        .heads(heads.begin(), heads.end());
  }

  private void report(EvictReport r, boolean merged) {
    saw(r.tokensEvicted(), r.recordsFreed(), r.bytesFreed(), r.tokensRepacked());
    if (merged) saw(r.tokensMerged());
  }

  private void evict(ScriptLine line) {
    Sequence sequence = named(line);
    List<ByteBuffer> rows = new ArrayList<>();
    if (line.has("scores")) {
      int tokens = tokens(sequence);
      shapes.eachRow(line, (layer, head) -> {
        ByteBuffer row = Direct.bytes(4L * tokens);
        long key = ScriptNumbers.row(line.number("scores"), data(sequence), layer, ScriptNumbers.SCORES, head);
        ScriptNumbers.putRow(row, StepOptions.Dtype.F32, "normal", key, 1, tokens);
        rows.add(row.flip());
      });
    }
    ByteBuffer scores = joined(rows);
    report(sequence.evict(scores == null ? null : scores.asFloatBuffer(), evictOptions(line)), false);
  }

  /** null if there is nothing: so C sees neither scores nor clusters. */
  private static ByteBuffer joined(List<ByteBuffer> rows) {
    ByteBuffer all = Direct.bytes(rows.stream().mapToLong(ByteBuffer::remaining).sum());
    rows.forEach(all::put);
    return all.position() == 0 ? null : all.flip();
  }

  private void merge(ScriptLine line) {
    Sequence sequence = named(line);
    int n = tokens(sequence);
    long first = line.number("first"), recent = line.number("recent");
    List<ByteBuffer> rows = new ArrayList<>();
    shapes.eachRow(line, (layer, head) -> {
      ByteBuffer row = Direct.bytes(4L * n);
      long key = ScriptNumbers.row(line.number("seed"), data(sequence), layer, ScriptNumbers.CLUSTERS, head);
      for (int i = 0; i < n; i++) {
        boolean stays = i % 4 == 0 || i < first || i >= n - recent;
        int choice = stays ? 2 : (int) Math.floorMod(ScriptNumbers.n(key, i), 4L);
        row.putInt(choice == 0 ? i - i % 4 : choice == 1 ? -1 : i);
      }
      rows.add(row.flip());
    });
    ByteBuffer clusters = joined(rows);
    IntBuffer numbers = clusters == null ? null : clusters.asIntBuffer();
    ScriptLine.Range layers = line.range("layers"), heads = line.range("heads");
    report(sequence.merge(numbers, new MergeOptions().layers(layers.begin(), layers.end()).heads(heads.begin(), heads.end())
        .valuesOnly(line.flag("values_only")).unbiased(line.flag("unbiased"))), true);
  }

  private void stepDown(ScriptLine line) {
    ScriptLine.Range layers = line.range("layers");
    StepDownReport r = named(line).stepDown(new StepDownOptions().rung((int) line.number("rung")).layers(layers.begin(), layers.end())
        .budgetBytes(line.number("budget_bytes")).recent(line.number("recent")));
    saw(r.pages(), r.tokensRequantized(), r.bytesFreed(), r.recordBytes());
  }

  // ---- Snapshots ----

  private void exportSnapshot(ScriptLine line) {
    List<Sequence> some = line.names.stream().skip(1).map(this::sequence).toList();
    ByteBuffer bytes = some.isEmpty() ? cache.exportSnapshot() : cache.exportSnapshot(some);
    saw(bytes.remaining());
    seen.add(bytes.duplicate());
    snapshots.put(line.name(0), bytes);
  }

  private void importSnapshot(ScriptLine line) {
    ByteBuffer bytes = snapshots.get(line.name(0));
    if (bytes != null && line.has("flip")) {
      ByteBuffer copy = Direct.bytes(bytes.remaining()).put(bytes.duplicate()).flip();
      int at = (int) Long.remainderUnsigned(line.number("flip"), copy.remaining());
      bytes = copy.put(at, (byte) (copy.get(at) ^ 1));
    }
    if (line.names.size() < 2) {
      saw(cache.checkSnapshot(bytes));
      return;
    }
    List<Sequence> all = cache.importSnapshot(bytes, line.names.size() - 1);
    saw(all.size());
    for (int i = 0; i < all.size(); i++) made(line.name(i + 1), all.get(i), line.number("data"), line.number("first_position"));
  }

  // ---- Read-back ----

  private static Sequence.Part part(ScriptLine line) {
    switch (line.word("part", "keys")) {
      case "keys": return Sequence.Part.KEYS;
      case "values": return Sequence.Part.VALUES;
      default: throw new ScriptLine.Nonsense("unknown part " + line.word("part", ""));
    }
  }

  /** Live tokens, none where that cannot be said: the read-back then says why. */
  private long live(ScriptLine line) {
    try {
      return named(line).live(line.number("layer"), line.number("head"));
    } catch (KvcException e) {
      return 0;
    }
  }

  private long dim(ScriptLine line) { return part(line) == Sequence.Part.KEYS ? shapes.of(line).kDim() : shapes.of(line).vDim(); }

  private void read(ScriptLine line) {
    long first = line.number("first"), n = line.number("n", live(line) - first);
    ByteBuffer rows = Direct.bytes(4 * Math.max(n, 0) * dim(line));
    named(line).read(line.number("layer"), line.number("head"), part(line), first, n, rows.asFloatBuffer());
    seen.add(rows);
  }

  private void codes(ScriptLine line) {
    long layer = line.number("layer"), head = line.number("head"), tokens = named(line).codes(layer, head, part(line), null);
    ByteBuffer codes = Direct.bytes(tokens * dim(line));
    saw(named(line).codes(layer, head, part(line), tokens == 0 ? null : codes)); // C refuses room of no bytes
    seen.add(codes);
  }

  private interface PerToken {
    long into(long layer, long head, LongBuffer out);
  }

  private void perToken(ScriptLine line, PerToken call) {
    ByteBuffer numbers = Direct.bytes(8 * live(line));
    long tokens = call.into(line.number("layer"), line.number("head"), numbers.asLongBuffer());
    seen.add(numbers.limit((int) (8 * tokens)));
  }

  // ---- Prefix index ----

  private static ByteBuffer salt(ScriptLine line) { return Direct.of(line.word("salt", "")); }

  private void publish(ScriptLine line) {
    named(line).publish(Direct.of(ScriptNumbers.promptTokens(line)), salt(line), 
        new PrefixOptions().pinned(line.flag("pinned")).seal(line.flag("seal")));
  }

  private void lookup(ScriptLine line) {
    PrefixHit hit = cache.lookup(Direct.of(ScriptNumbers.promptTokens(line)), salt(line), sequenceOptions(line));
    made(line.name(0), hit.sequence(), line.number("data"), line.number("first_position"));
    saw(hit.tokens(), hit.shared());
  }

  private void prefixStats(ScriptLine line) {
    PrefixStats s = cache.prefixStats();
    saw(s.entries(), s.tokens(), s.recordBytes(), s.budgetBytes(), s.hits(), s.misses(), s.hitTokens(), s.evictions());
  }
}

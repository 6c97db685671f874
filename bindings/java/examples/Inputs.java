import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.function.Consumer;
import kvc.Cache;
import kvc.CacheOptions;
import kvc.Direct;
import kvc.Sequence;
import kvc.Step;
import kvc.StepOptions;

/** What a model would compute: keys, values and queries, here the numbers of docs/SCRIPTS.md with seed 1. */
final class Inputs {
  static final int LAYERS = 2, KV_HEADS = 2, Q_HEADS = 4, DIM = 64;
  private static final int KEYS = 1, VALUES = 2, QUERIES = 3;

  private Inputs() {}

  static Cache newCache() { return new Cache(options().target("scalar")); }

  static CacheOptions options() {
    return new CacheOptions().layers(LAYERS).kvHeads(KV_HEADS).qHeads(Q_HEADS).kDim(DIM).codec("int4").arenaTokens(4096);
  }

  /** What a layer does with its keys, values and queries; out takes what it attends to. */
  interface LayerRun {
    void run(Step step, int layer, ByteBuffer k, ByteBuffer v, ByteBuffer q, ByteBuffer out);
  }

  /** One forward pass over one sequence: its next tokens go in, what each layer attends to goes into the digest. */
  static void run(Cache cache, Sequence sequence, int tokens, long data, MessageDigest digest) {
    run(cache, sequence, tokens, data, null, (step, layer, k, v, q, out) -> {
      step.append(layer, k, v);
      step.attend(layer, q, out);
    }, out -> digest.update(out));
  }

  static void run(Cache cache, Sequence sequence, int tokens, long data, StepOptions options, LayerRun layerRun,
      Consumer<ByteBuffer> outputs) {
    long position = sequence.length();
    ByteBuffer out = Direct.bytes(tokens * Q_HEADS * DIM * 4L);
    try (Step step = cache.begin(List.of(sequence), new long[] {tokens}, options)) {
      for (int layer = 0; layer < LAYERS; layer++) {
        layerRun.run(step, layer, rows(KEYS, layer, position, tokens, data), rows(VALUES, layer, position, tokens, data),
            rows(QUERIES, layer, position, tokens, data), out);
        outputs.accept(out.duplicate());
      }
      step.commit();
    }
  }

  private static ByteBuffer rows(int part, long layer, long position, int tokens, long data) {
    int width = (part == QUERIES ? Q_HEADS : KV_HEADS) * DIM;
    ByteBuffer rows = Direct.bytes(tokens * width * 4L);
    for (int t = 0; t < tokens; t++) {
      long row = key(key(key(1, data), layer * 8 + part), position + t);
      for (int i = 0; i < width; i++) {
        long bits = key(row, i);
        long n = (bits & 0xffff) + (bits >>> 16 & 0xffff) + (bits >>> 32 & 0xffff) + (bits >>> 48) - 131070;
        rows.putFloat(n / 65536f);
      }
    }
    return rows.flip();
  }

  private static long key(long a, long b) {
    long z = a + 0x9e3779b97f4a7c15L * (b + 1);
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }

  static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e); // every Java has it
    }
  }

  static String hex(MessageDigest digest) { return HexFormat.of().formatHex(digest.digest()); }
}

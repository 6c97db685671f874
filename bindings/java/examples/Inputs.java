import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import kvc.Cache;
import kvc.CacheOptions;
import kvc.Direct;
import kvc.Sequence;
import kvc.Step;

/** What a model would compute: keys, values and queries, here the numbers of docs/SCRIPTS.md with seed 1. */
final class Inputs {
  static final int LAYERS = 2, KV_HEADS = 2, Q_HEADS = 4, DIM = 64;
  private static final int KEYS = 1, VALUES = 2, QUERIES = 3;

  private Inputs() {}

  static Cache newCache() {
    return new Cache(new CacheOptions().layers(LAYERS).kvHeads(KV_HEADS).qHeads(Q_HEADS).kDim(DIM).codec("int4").target("scalar")
        .arenaTokens(4096));
  }

  /** One forward pass over one sequence: its next tokens go in, what each layer attends to goes into the digest. */
  static void run(Cache cache, Sequence sequence, int tokens, long data, MessageDigest digest) {
    long position = sequence.length();
    ByteBuffer out = Direct.bytes(tokens * Q_HEADS * DIM * 4L);
    try (Step step = cache.begin(sequence, tokens)) {
      for (int layer = 0; layer < LAYERS; layer++) {
        step.append(layer, rows(KEYS, layer, position, tokens, data), rows(VALUES, layer, position, tokens, data));
        step.attend(layer, rows(QUERIES, layer, position, tokens, data), out);
        digest.update(out.duplicate());
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

package kvc;

import java.nio.ByteBuffer;

/** The numbers that scripts feed to a cache: docs/SCRIPTS.md, "Numbers". Unsigned 64-bit arithmetic that wraps around is Java's own. */
final class ScriptNumbers {
  static final int KEYS = 1, VALUES = 2, QUERIES = 3, SCORES = 4, SINK_LOGITS = 5, CLUSTERS = 6;
  private static final long GOLDEN = 0x9e3779b97f4a7c15L;

  private ScriptNumbers() {}

  static long mix(long z) {
    z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
    z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
    return z ^ (z >>> 31);
  }

  static long key(long a, long b) { return mix(a + GOLDEN * (b + 1)); }

  /** The row of a seed, data number, layer, part and position. */
  static long row(long seed, long data, long layer, int part, long position) {
    return key(key(key(seed, data), layer * 8 + part), position);
  }

  static long n(long row, long i) {
    long bits = key(row, i);
    return (bits & 0xffff) + (bits >>> 16 & 0xffff) + (bits >>> 32 & 0xffff) + (bits >>> 48) - 131070;
  }

  static int elementBytes(StepOptions.Dtype type) { return type == StepOptions.Dtype.F32 ? 4 : 2; }

  static StepOptions.Dtype dtype(String word) {
    switch (word) {
      case "f32": return StepOptions.Dtype.F32;
      case "f16": return StepOptions.Dtype.F16;
      case "bf16": return StepOptions.Dtype.BF16;
      default: throw new ScriptLine.Nonsense("unknown element type " + word);
    }
  }

  static float element(StepOptions.Dtype type, String kind, long n, long channel) {
    float x;
    switch (type) {
      case F16: x = (n >> 7) / 512f; break;
      case BF16: x = (n >> 10) / 64f; break;
      default: x = n / 65536f;
    }
    switch (kind) {
      case "normal": case "constant": case "nan": case "inf": return x;
      case "sharp": return 16 * x;
      case "zero": return 0;
      case "outlier": return channel % 16 == 3 ? 32 * x : x;
      case "tiny": return x / 16384;
      case "extreme": return n < 0 ? -65280 : 65280;
      case "huge": return (n < 0 ? -1 : 1) * (type == StepOptions.Dtype.F16 ? Float.POSITIVE_INFINITY : 131072);
      default: throw new ScriptLine.Nonsense("unknown kind of data " + kind);
    }
  }

  /** Writes one element; every x of a script is exact in its type. */
  static void put(ByteBuffer to, StepOptions.Dtype type, float x) {
    switch (type) {
      case F16: to.putShort(half(x)); break;
      case BF16: to.putShort((short) (Float.floatToIntBits(x) >>> 16)); break;
      default: to.putFloat(x);
    }
  }

  private static short half(float x) {
    int bits = Float.floatToIntBits(x), sign = bits >>> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x7f800000) return (short) (sign | 0x7c00 | (magnitude > 0x7f800000 ? 0x200 : 0));
    if (magnitude < 0x38800000) return (short) (sign | (int) (Math.abs(x) * 0x1p24f)); // below 2^-14: subnormal
    return (short) (sign | (magnitude - 0x38000000) >>> 13);
  }

  /** A row [heads][dim] into a buffer. */
  static void putRow(ByteBuffer to, StepOptions.Dtype type, String kind, long row, long heads, long dim) {
    for (long i = 0; i < heads * dim; i++) put(to, type, element(type, kind, n(row, i), i % dim));
  }

  /** Token ids: of `text`, and from `turn` on of `other`. */
  static long[] promptTokens(ScriptLine line) {
    long[] tokens = new long[Math.toIntExact(line.number("n"))];
    long turn = line.number("turn", tokens.length);
    for (int i = 0; i < tokens.length; i++) tokens[i] = 1000L * i + (i < turn ? line.number("text") : line.number("other"));
    return tokens;
  }
}

package kvc;

import java.nio.ByteBuffer;

/** The small cache of most tests, and tokens for it. */
final class Fixture {
  static final int LAYERS = 2, KV_HEADS = 2, Q_HEADS = 4, DIM = 64;

  private Fixture() {}

  static CacheOptions options() {
    return new CacheOptions().layers(LAYERS).kvHeads(KV_HEADS).qHeads(Q_HEADS).kDim(DIM).codec("int4").target("scalar").arenaTokens(2048);
  }

  static ByteBuffer rows(int part, int layer, long position, int tokens, int heads) {
    ByteBuffer rows = Direct.bytes(4L * tokens * heads * DIM);
    for (int t = 0; t < tokens; t++)
      ScriptNumbers.putRow(rows, StepOptions.Dtype.F32, "normal", ScriptNumbers.row(1, 1, layer, part, position + t), heads, DIM);
    return rows.flip();
  }

  static ByteBuffer keys(int layer, long position, int tokens) { return rows(ScriptNumbers.KEYS, layer, position, tokens, KV_HEADS); }

  static ByteBuffer values(int layer, long position, int tokens) { return rows(ScriptNumbers.VALUES, layer, position, tokens, KV_HEADS); }

  static ByteBuffer queries(int layer, long position, int tokens) { return rows(ScriptNumbers.QUERIES, layer, position, tokens, Q_HEADS); }

  static ByteBuffer output(int tokens) { return Direct.bytes(4L * tokens * Q_HEADS * DIM); }

  /** Adds tokens; gives the last layer's output. */
  static ByteBuffer grow(Cache cache, Sequence sequence, int tokens) { return grow(cache, sequence, tokens, null); }

  static ByteBuffer grow(Cache cache, Sequence sequence, int tokens, StepOptions options) {
    long position = sequence.length();
    ByteBuffer out = output(tokens);
    try (Step step = cache.begin(java.util.List.of(sequence), new long[] {tokens}, options)) {
      for (int layer = 0; layer < LAYERS; layer++) {
        step.append(layer, keys(layer, position, tokens), values(layer, position, tokens));
        step.attend(layer, queries(layer, position, tokens), out);
      }
      step.commit();
    }
    return out;
  }
}

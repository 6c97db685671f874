import static kvc.raw.kvc.*;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.security.MessageDigest;
import java.util.HexFormat;
import kvc.KvcException;
import kvc.Status;
import kvc.raw.*;

/** The program of bindings/proof/proof.c over the raw Java layer; it prints the same digest. */
public final class Proof {
  static final int LAYERS = 2, KV_HEADS = 2, Q_HEADS = 4, DIM = 64;
  static MessageDigest hash;
  static int seed = 1;

  static ByteBuffer bytes(long n) {
    return ByteBuffer.allocateDirect(Math.toIntExact(n)).order(ByteOrder.nativeOrder());
  }

  static LongBuffer longs(long... values) {
    LongBuffer buffer = bytes(values.length * 8).asLongBuffer();
    return buffer.put(values).flip();
  }

  /** Multiples of 2^-15 from an integer generator: exact in every language. */
  static ByteBuffer fill(int n) {
    ByteBuffer data = bytes(n * 4);
    for (int i = 0; i < n; i++) {
      seed = seed * 1664525 + 1013904223;
      data.putFloat(((seed >>> 16) - 32768) / 32768f);
    }
    return data.flip();
  }

  static void step(long cache, long seq, int tokens) {
    ByteBuffer out = bytes(tokens * Q_HEADS * DIM * 4), lse = bytes(tokens * Q_HEADS * 4);
    long step = kvc_step_begin(cache, longs(seq), longs(tokens), null, null);
    for (int layer = 0; layer < LAYERS; layer++) {
      ByteBuffer k = fill(tokens * KV_HEADS * DIM), v = fill(tokens * KV_HEADS * DIM), q = fill(tokens * Q_HEADS * DIM);
      kvc_append(step, layer, k, v);
      kvc_attend(step, layer, q, out, lse.asFloatBuffer(), null);
      hash.update(out.duplicate());
      hash.update(lse.duplicate());
    }
    kvc_step_commit(step, null);
  }

  static void readBack(long cache, long seq, int layer, int head) {
    long[] live = new long[1];
    kvc_seq_live(cache, seq, layer, head, live);
    ByteBuffer positions = bytes(live[0] * 8), rows = bytes(live[0] * DIM * 4);
    kvc_seq_positions(cache, seq, layer, head, positions.asLongBuffer(), live);
    hash.update(positions);
    for (kvc_part part : new kvc_part[] {kvc_part.KVC_KEYS, kvc_part.KVC_VALUES}) {
      kvc_seq_read(cache, seq, layer, head, part.swigValue(), 0, live[0], rows.asFloatBuffer());
      hash.update(rows.duplicate());
    }
  }

  static void digestCounts(long... counts) {
    ByteBuffer data = bytes(counts.length * 8);
    data.asLongBuffer().put(counts);
    hash.update(data);
  }

  public static void main(String[] args) throws Exception {
    hash = MessageDigest.getInstance("SHA-256");
    kvc_options options = new kvc_options();
    options.setLayers(LAYERS);
    options.setKv_heads(KV_HEADS);
    options.setQ_heads(Q_HEADS);
    options.setK_dim(DIM);
    options.setV_dim(DIM);
    options.setArena_tokens(1024);
    options.setCodec("int4");
    if (args.length > 0) options.setTarget(args[0]);
    long cache = kvc_create(options, null, 0);
    long seq = kvc_seq_create(cache, null);
    step(cache, seq, 200);
    for (int i = 0; i < 150; i++) step(cache, seq, 1);
    kvc_evict_options evict = new kvc_evict_options();
    evict.setBudget(256);
    kvc_evict_report report = new kvc_evict_report();
    kvc_evict(cache, seq, null, evict, report);
    for (int i = 0; i < 20; i++) step(cache, seq, 1);
    for (int layer = 0; layer < LAYERS; layer++) for (int head = 0; head < KV_HEADS; head++) readBack(cache, seq, layer, head);
    kvc_stats stats = new kvc_stats();
    kvc_stats_get(cache, stats);
    digestCounts(report.getTokens_evicted(), report.getRecords_freed(), report.getBytes_freed(), stats.getTokens_appended(),
        stats.getTokens_evicted(), stats.getPages_quantized(), stats.getRecord_bytes(), stats.getSequences());
    kvc_destroy(cache);
    try {
      kvc_destroy(cache);
      throw new AssertionError("a cache was destroyed twice");
    } catch (KvcException e) {
      if (e.status() != Status.HANDLE) throw e;
    }
    System.out.println(HexFormat.of().formatHex(hash.digest()));
  }
}

import static kvc.raw.kvc.kvc_address_of;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Locale;
import kvc.Cache;
import kvc.CacheOptions;
import kvc.Direct;
import kvc.Kvc;
import kvc.Sequence;
import kvc.Step;

/** What the calls of a decode step cost from Java; bench/README.md says what is timed. */
final class Ffi {
  private static final int LAYERS = 30, KV_HEADS = 3, Q_HEADS = 9, DIM = 64;
  private static final int ROUNDS = 21, NO_OPS = 20_000, SEQUENCES = 300, SHORT_STEPS = 32;
  private static final com.sun.management.ThreadMXBean THREADS = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
  private static final ByteBuffer K = rows(KV_HEADS * DIM, 1), V = rows(KV_HEADS * DIM, 1), Q = rows(Q_HEADS * DIM, 1);
  private static final ByteBuffer OUT = Direct.bytes(Q_HEADS * DIM * 4L);

  private static ByteBuffer rows(int width, int count) {
    ByteBuffer rows = Direct.bytes(4L * width * count);
    for (int i = 0; i < width * count; i++) rows.putFloat((i % width * 37 % 101 - 50) / 50f);
    return rows.flip();
  }

  /** Through FFM go addresses, through JNI buffers. */
  private static final boolean FFM = Kvc.calls().equals("ffm");
  private static final long K_AT = kvc_address_of(K), V_AT = kvc_address_of(V), Q_AT = kvc_address_of(Q), OUT_AT = kvc_address_of(OUT);
  private static final long KV_BYTES = 4L * KV_HEADS * DIM, Q_BYTES = 4L * Q_HEADS * DIM;

  private static void append(Step step, int layer) {
    if (FFM) step.append(layer, K_AT, KV_BYTES, V_AT, KV_BYTES);
    else step.append(layer, K, V);
  }

  private static void attend(Step step, int layer) {
    if (FFM) step.attend(layer, Q_AT, Q_BYTES, OUT_AT, Q_BYTES, 0, 0, null);
    else step.attend(layer, Q, OUT);
  }

  private static double median(double[] samples) {
    Arrays.sort(samples);
    return samples[samples.length / 2];
  }

  private static Cache newCache(long tokens) {
    return new Cache(new CacheOptions().layers(LAYERS).kvHeads(KV_HEADS).qHeads(Q_HEADS).kDim(DIM).codec("int4").arenaTokens(tokens));
  }

  private static double noOpNs() {
    double[] samples = new double[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
      long sum = 0, from = System.nanoTime();
      for (int i = 0; i < NO_OPS; i++) sum += Kvc.abiVersion();
      samples[round] = (double) (System.nanoTime() - from) / NO_OPS;
      if (sum == 0) throw new AssertionError();
    }
    return median(samples);
  }

  /** Of one append and one attend over next to nothing. */
  private static double[] callsNs() {
    double[] appends = new double[SEQUENCES * SHORT_STEPS], attends = new double[SEQUENCES * SHORT_STEPS];
    try (Cache cache = newCache(1024)) {
      for (int s = 0, at = 0; s < SEQUENCES; s++) {
        try (Sequence sequence = cache.newSequence()) {
          for (int i = 0; i < SHORT_STEPS; i++, at++) {
            try (Step step = cache.begin(sequence, 1)) {
              long from = System.nanoTime();
              for (int layer = 0; layer < LAYERS; layer++) append(step, layer);
              long middle = System.nanoTime();
              for (int layer = 0; layer < LAYERS; layer++) attend(step, layer);
              appends[at] = (double) (middle - from) / LAYERS;
              attends[at] = (double) (System.nanoTime() - middle) / LAYERS;
              step.commit();
            }
          }
        }
      }
    }
    return new double[] {median(appends), median(attends)};
  }

  private static void decode(Cache cache, Sequence sequence) {
    try (Step step = cache.begin(sequence, 1)) {
      for (int layer = 0; layer < LAYERS; layer++) {
        append(step, layer);
        attend(step, layer);
      }
      step.commit();
    }
  }

  /**
   * A line on stdin asks for so many steps and is answered with the median of their second half; the end, with what one
   * step allocates: bytes of Java's heap.
   */
  private static void answer(int context, int mostSteps) throws IOException {
    try (Cache cache = newCache(context + mostSteps); Sequence sequence = cache.newSequence()) {
      ByteBuffer rows = rows(KV_HEADS * DIM, context);
      try (Step step = cache.begin(sequence, context)) {
        for (int layer = 0; layer < LAYERS; layer++) step.append(layer, rows, rows);
        step.commit();
      }
      BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
      long allocated = 0, taken = 0, thread = Thread.currentThread().getId();
      for (String line; (line = lines.readLine()) != null;) {
        double[] samples = new double[Integer.parseInt(line)];
        long before = THREADS.getThreadAllocatedBytes(thread);
        for (int i = 0; i < samples.length; i++) {
          long from = System.nanoTime();
          decode(cache, sequence);
          samples[i] = (System.nanoTime() - from) / 1000.0;
        }
        allocated += THREADS.getThreadAllocatedBytes(thread) - before;
        taken += samples.length;
        System.out.printf(Locale.ROOT, "%.2f%n", median(Arrays.copyOfRange(samples, samples.length / 2, samples.length)));
      }
      System.out.printf(Locale.ROOT, "{\"allocated\": %.2f}%n", (double) allocated / taken);
    }
  }

  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 2) throw new IllegalArgumentException("usage: Ffi CONTEXT MOST_STEPS");
    double noOp = noOpNs();
    double[] calls = callsNs();
    System.out.printf(Locale.ROOT, "{\"noop_ns\": %.2f, \"append_ns\": %.1f, \"attend_ns\": %.1f}%n", noOp, calls[0], calls[1]);
    answer(Integer.parseInt(arguments[0]), Integer.parseInt(arguments[1]));
  }
}

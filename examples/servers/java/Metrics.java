import java.util.Locale;
import java.util.concurrent.atomic.AtomicLong;
import kvc.CacheStats;

/** Prometheus text, under vLLM's names behind "kvc:". */
final class Metrics {
  private final StringBuilder out = new StringBuilder();

  private Metrics() {}

  static String of(Engine engine) {
    Metrics metrics = new Metrics();
    CacheStats stats = engine.cache.stats();
    metrics.gauges(engine, stats);
    metrics.counters(engine.count, stats);
    return metrics.out.toString();
  }

  /** Pairs of labels and number. */
  private void family(String name, String kind, Object... values) {
    out.append("# TYPE kvc:").append(name).append(' ').append(kind).append('\n');
    for (int i = 0; i < values.length; i += 2)
      out.append("kvc:").append(name).append(values[i]).append(' ').append(values[i + 1].toString().toLowerCase(Locale.ROOT)).append('\n');
  }

  private void gauges(Engine engine, CacheStats stats) {
    int[] depth = engine.depth();
    family("num_requests_running", "gauge", "", depth[0]);
    family("num_requests_waiting", "gauge", "", depth[1]);
    family("kv_cache_usage_perc", "gauge", "", (double) stats.recordBytes() / stats.arenaBytes());
    family("kv_cache_bytes", "gauge", "{kind=\"arena\"}", stats.arenaBytes(), "{kind=\"bound\"}", stats.boundBytes(), "{kind=\"record\"}",
        stats.recordBytes(), "{kind=\"sink\"}", stats.sinkBytes(), "{kind=\"window\"}", stats.windowBytes(), "{kind=\"code\"}",
        stats.codeBytes(), "{kind=\"side\"}", stats.sideBytes(), "{kind=\"reserved\"}", stats.reservedBytes(), "{kind=\"table\"}",
        stats.tableBytes(), "{kind=\"scratch\"}", stats.scratchBytes(), "{kind=\"prefix\"}", engine.cache.prefixStats().recordBytes());
    family("kv_cache_sequences", "gauge", "", stats.sequences());
    family("kv_cache_compression_ratio", "gauge", "", compressionRatio(engine, stats.recordBytes()));
  }

  private void counters(Counters count, CacheStats stats) {
    family("prefix_cache_queries_total", "counter", "", count.lookedUp);
    family("prefix_cache_hits_total", "counter", "", count.found);
    family("prompt_tokens_total", "counter", "", count.promptTokens);
    family("generation_tokens_total", "counter", "", count.textTokens);
    family("request_success_total", "counter", "{finished_reason=\"stop\"}", count.stopped, "{finished_reason=\"length\"}",
        count.reachedLength, "{finished_reason=\"abort\"}", count.aborted);
    family("request_rejected_total", "counter", "", count.rejected);
    family("num_preemptions_total", "counter", "", count.preempted);
    family("pressure_total", "counter", "{action=\"step_down\"}", count.steppedDown, "{action=\"evict\"}", count.evicted);
    family("tokens_evicted_total", "counter", "", stats.tokensEvicted());
    family("tokens_requantized_total", "counter", "", stats.tokensRequantized());
  }

  /** That of the tokens of running sequences; 0 without any. */
  private static double compressionRatio(Engine engine, long recordBytes) {
    final int bytesOfNumber = 2, keysAndValues = 2;
    AtomicLong held = engine.count.heldTokens;
    long fp16Bytes = held.get() * engine.model.layers * engine.model.kvWidth * bytesOfNumber * keysAndValues;
    return recordBytes == 0 ? 0 : (double) fp16Bytes / recordBytes;
  }
}

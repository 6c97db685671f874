using System.Globalization;
using System.Text;
using Kvc;

namespace SmolServer {

/// <summary>Prometheus text, under vLLM's names behind "kvc:".</summary>
sealed class Metrics {
  readonly StringBuilder text = new StringBuilder();

  /// <summary>What they are now. KvcException, ObjectDisposedException: the cache has gone.</summary>
  public string Write(Engine engine) {
    CacheStats stats = engine.Cache.Stats();
    PrefixStats prefixes = engine.Cache.Prefixes.Stats();
    (int Running, int Waiting) depth = engine.Depth;
    Gauge("num_requests_running", depth.Running);
    Gauge("num_requests_waiting", depth.Waiting);
    Gauge("kv_cache_usage_perc", (double)stats.RecordBytes / stats.ArenaBytes);
    Family("kv_cache_bytes", "gauge", "kind", ("arena", stats.ArenaBytes), ("bound", stats.BoundBytes), ("record", stats.RecordBytes),
           ("sink", stats.SinkBytes), ("window", stats.WindowBytes), ("code", stats.CodeBytes), ("side", stats.SideBytes),
           ("reserved", stats.ReservedBytes), ("table", stats.TableBytes), ("scratch", stats.ScratchBytes), ("prefix", prefixes.RecordBytes));
    Gauge("kv_cache_sequences", stats.Sequences);
    Gauge("kv_cache_compression_ratio", CompressionRatio(engine, stats.RecordBytes));
    Counters count = engine.Count;
    Total("prefix_cache_queries_total", count.LookedUp.Value);
    Total("prefix_cache_hits_total", count.Found.Value);
    Total("prompt_tokens_total", count.PromptTokens.Value);
    Total("generation_tokens_total", count.TextTokens.Value);
    Family("request_success_total", "counter", "finished_reason", ("stop", count.Stopped.Value), ("length", count.ReachedLength.Value),
           ("abort", count.Aborted.Value));
    Total("request_rejected_total", count.Rejected.Value);
    Total("num_preemptions_total", count.Preempted.Value);
    Family("pressure_total", "counter", "action", ("step_down", count.SteppedDown.Value), ("evict", count.Evicted.Value));
    Total("tokens_evicted_total", stats.TokensEvicted);
    Total("tokens_requantized_total", stats.TokensRequantized);
    return text.ToString();
  }

  // That of the tokens of running sequences; 0 without any.
  static double CompressionRatio(Engine engine, long recordBytes) {
    const int BytesOfNumber = 2, KeysAndValues = 2;
    long held = engine.Count.HeldTokens.Value * engine.Model.Layers * engine.Model.KvWidth * BytesOfNumber * KeysAndValues;
    return recordBytes == 0 ? 0 : (double)held / recordBytes;
  }

  void Gauge(string name, double value) => Family(name, "gauge", null, (null, value));

  void Total(string name, double value) => Family(name, "counter", null, (null, value));

  void Family(string name, string kind, string label, params (string Of, double Value)[] values) {
    text.Append("# TYPE kvc:").Append(name).Append(' ').Append(kind).Append('\n');
    foreach ((string Of, double Value) one in values) {
      text.Append("kvc:").Append(name);
      if (label != null) text.Append('{').Append(label).Append("=\"").Append(one.Of).Append("\"}");
      text.Append(' ').Append(one.Value.ToString("R", CultureInfo.InvariantCulture).ToLowerInvariant()).Append('\n');
    }
  }
}

}

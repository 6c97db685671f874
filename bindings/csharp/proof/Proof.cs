using System;
using System.Security.Cryptography;
using Kvc;
using Kvc.Raw;

/// <summary>The program of bindings/proof/proof.c over the raw C# layer; it prints the same digest.</summary>
static unsafe class Proof {
  const int Layers = 2, KvHeads = 2, QHeads = 4, Dim = 64;
  static readonly SHA256 hash = SHA256.Create();
  static uint seed = 1;

  static void Digest(Array data) {
    var bytes = new byte[Buffer.ByteLength(data)];
    Buffer.BlockCopy(data, 0, bytes, 0, bytes.Length);
    hash.TransformBlock(bytes, 0, bytes.Length, null, 0);
  }

  /// <summary>Multiples of 2^-15 from an integer generator: exact in every language.</summary>
  static float[] Fill(int n) {
    var data = new float[n];
    for (int i = 0; i < n; i++) {
      seed = unchecked(seed * 1664525 + 1013904223);
      data[i] = ((int)(seed >> 16) - 32768) / 32768f;
    }
    return data;
  }

  static void RunStep(CacheHandle cache, SequenceHandle sequence, long tokens) {
    long seq = sequence.Value;
    float[] output = new float[tokens * QHeads * Dim], lse = new float[tokens * QHeads];
    using (StepHandle step = kvc.kvc_step_begin(cache, &seq, &tokens, 1, null, 0, null)) {
      for (int layer = 0; layer < Layers; layer++) {
        int kv = (int)tokens * KvHeads * Dim;
        fixed (float* k = Fill(kv), v = Fill(kv), q = Fill(output.Length), o = output, l = lse) {
          kvc.kvc_append(step, layer, k, kv * 4, v, kv * 4);
          kvc.kvc_attend(step, layer, q, output.Length * 4, o, output.Length * 4, l, lse.Length * 4, null);
        }
        Digest(output);
        Digest(lse);
      }
      kvc.kvc_step_commit(step, null, 0);
    }
  }

  static void ReadBack(CacheHandle cache, SequenceHandle seq, int layer, int head) {
    long live;
    kvc.kvc_seq_live(cache, seq, layer, head, &live);
    var positions = new long[live];
    fixed (long* p = positions) kvc.kvc_seq_positions(cache, seq, layer, head, p, live, null);
    Digest(positions);
    var rows = new float[live * Dim];
    foreach (kvc_part part in new[] {kvc_part.KVC_KEYS, kvc_part.KVC_VALUES}) {
      fixed (float* r = rows) kvc.kvc_seq_read(cache, seq, layer, head, (int)part, 0, live, r, rows.Length * 4);
      Digest(rows);
    }
  }

  static void Main(string[] args) {
    var options = new kvc_options {
      layers = Layers, kv_heads = KvHeads, q_heads = QHeads, k_dim = Dim, v_dim = Dim, arena_tokens = 1024, codec = "int4"
    };
    if (args.Length > 0) options.target = args[0];
    using (CacheHandle cache = kvc.kvc_create(options, null, 0)) {
      SequenceHandle seq = kvc.kvc_seq_create(cache, null).Of(cache);
      RunStep(cache, seq, 200);
      for (int i = 0; i < 150; i++) RunStep(cache, seq, 1);
      var report = new kvc_evict_report();
      kvc.kvc_evict(cache, seq, null, 0, new kvc_evict_options {budget = 256}, report);
      for (int i = 0; i < 20; i++) RunStep(cache, seq, 1);
      for (int layer = 0; layer < Layers; layer++)
        for (int head = 0; head < KvHeads; head++) ReadBack(cache, seq, layer, head);
      var stats = new kvc_stats();
      kvc.kvc_stats_get(cache, stats);
      Digest(new[] {report.tokens_evicted, report.records_freed, report.bytes_freed, stats.tokens_appended,
                    stats.tokens_evicted, stats.pages_quantized, stats.record_bytes, stats.sequences});
      kvc.kvc_destroy(cache);
      try {
        kvc.kvc_destroy(cache);
        throw new Exception("a cache was destroyed twice");
      } catch (KvcHandleException) {}
    }
    hash.TransformFinalBlock(new byte[0], 0, 0);
    Console.WriteLine(BitConverter.ToString(hash.Hash).Replace("-", "").ToLowerInvariant());
  }
}

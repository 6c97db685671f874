using Kvc.Raw;

namespace Kvc {

// Every property is the field of kvc.h of that name.

/// <summary>What a request takes: kvc_plan.</summary>
public sealed class Plan {
  internal readonly kvc_plan raw = new kvc_plan();

  internal Plan() {}

  public long ArenaBytes => raw.arena_bytes;
  public long SlabBytes => raw.slab_bytes;
  public long RecordBytes => raw.record_bytes;
  public long Fp16Bytes => raw.fp16_bytes;
  public long MaxTokens => raw.max_tokens;
  public long MaxSequences => raw.max_sequences;
  public double CodecBits => raw.codec_bits;
  public double EffectiveBits => raw.effective_bits;
  public long CheckpointBytes => raw.checkpoint_bytes;
}

/// <summary>What an eviction or a merge did: kvc_evict_report.</summary>
public sealed class EvictReport {
  internal readonly kvc_evict_report raw = new kvc_evict_report();

  internal EvictReport() {}

  public long TokensEvicted => raw.tokens_evicted;
  public long RecordsFreed => raw.records_freed;
  public long BytesFreed => raw.bytes_freed;
  public long TokensRepacked => raw.tokens_repacked;
  public long TokensMerged => raw.tokens_merged;
}

/// <summary>kvc_step_down_report.</summary>
public sealed class StepDownReport {
  internal readonly kvc_step_down_report raw = new kvc_step_down_report();

  internal StepDownReport() {}

  public long Pages => raw.pages;
  public long TokensRequantized => raw.tokens_requantized;
  public long BytesFreed => raw.bytes_freed;
  public long RecordBytes => raw.record_bytes;
}

/// <summary>What a lookup found: kvc_prefix_hit.</summary>
public sealed class PrefixHit {
  internal readonly kvc_prefix_hit raw = new kvc_prefix_hit();

  internal PrefixHit() {}

  public long Tokens => raw.tokens;
  public long Shared => raw.shared;
}

/// <summary>kvc_prefix_stats.</summary>
public sealed class PrefixStats {
  internal readonly kvc_prefix_stats raw = new kvc_prefix_stats();

  internal PrefixStats() {}

  public long Entries => raw.entries;
  public long Tokens => raw.tokens;
  public long RecordBytes => raw.record_bytes;
  public long HostBytes => raw.host_bytes;
  public long BudgetBytes => raw.budget_bytes;
  public long Hits => raw.hits;
  public long Misses => raw.misses;
  public long HitTokens => raw.hit_tokens;
  public long Evictions => raw.evictions;
}

/// <summary>kvc_stats, as they were when they were asked for.</summary>
public sealed class CacheStats {
  internal readonly kvc_stats raw = new kvc_stats();

  internal CacheStats() {}

  public int OpenSteps => raw.open_steps;
  public long ArenaBytes => raw.arena_bytes;
  public long BoundBytes => raw.bound_bytes;
  public long RecordBytes => raw.record_bytes;
  public long SinkBytes => raw.sink_bytes;
  public long WindowBytes => raw.window_bytes;
  public long CodeBytes => raw.code_bytes;
  public long SideBytes => raw.side_bytes;
  public long ReservedBytes => raw.reserved_bytes;
  public long TableBytes => raw.table_bytes;
  public long ScratchBytes => raw.scratch_bytes;
  public long Sequences => raw.sequences;
  public long TokensAppended => raw.tokens_appended;
  public long TokensEvicted => raw.tokens_evicted;
  public long PagesQuantized => raw.pages_quantized;
  public long TokensRequantized => raw.tokens_requantized;
  public long SlowCalls => raw.slow_calls;
  public long TokensMerged => raw.tokens_merged;
  public long Synchronizations => raw.synchronizations;
  public long BytesStaged => raw.bytes_staged;
}

/// <summary>kvc_seq_stats.</summary>
public sealed class SequenceStats {
  internal readonly kvc_seq_stats raw = new kvc_seq_stats();

  internal SequenceStats() {}

  public long Tokens => raw.tokens;
  public long RecordBytes => raw.record_bytes;
  public long SharedBytes => raw.shared_bytes;
  public long TableBytes => raw.table_bytes;
  public long Fp16Bytes => raw.fp16_bytes;
  public double CodecBits => raw.codec_bits;
  public double EffectiveBits => raw.effective_bits;
}

}

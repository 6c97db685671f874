using System;
using Kvc.Raw;

namespace Kvc {

// Every property is the field of kvc.h of that name, with its default; kvc.h says what it means and what is allowed.

/// <summary>What a cache is made of: kvc_options.</summary>
public sealed class CacheOptions {
  internal readonly kvc_options raw = new kvc_options();

  public Device Device { get => (Device)raw.device; set => raw.device = (int)value; }
  public long Layers { get => raw.layers; set => raw.layers = value; }
  public long KvHeads { get => raw.kv_heads; set => raw.kv_heads = value; }
  public long QHeads { get => raw.q_heads; set => raw.q_heads = value; }
  public long KDim { get => raw.k_dim; set => raw.k_dim = value; }
  public long VDim { get => raw.v_dim; set => raw.v_dim = value; }
  public long SlidingWindow { get => raw.sliding_window; set => raw.sliding_window = value; }
  public string Codec { get => raw.codec; set => raw.codec = value; }
  public string Target { get => raw.target; set => raw.target = value; }
  public long ArenaBytes { get => raw.arena_bytes; set => raw.arena_bytes = value; }
  public long ArenaTokens { get => raw.arena_tokens; set => raw.arena_tokens = value; }
  public long ArenaSequences { get => raw.arena_sequences; set => raw.arena_sequences = value; }
  public IntPtr ArenaBlock { get => raw.arena_block; set => raw.arena_block = value; }
  public bool ArenaGrowth { get => raw.arena_growth != 0; set => raw.arena_growth = value ? 1 : 0; }
  public int SparePages { get => raw.spare_pages; set => raw.spare_pages = value; }
  public long Threads { get => raw.threads; set => raw.threads = value; }
  public bool Saturate { get => raw.saturate != 0; set => raw.saturate = value ? 1 : 0; }
  public RopePairs RopePairs { get => (RopePairs)raw.rope_pairs; set => raw.rope_pairs = (int)value; }
  public Keys Keys { get => (Keys)raw.keys; set => raw.keys = (int)value; }
  public Positions Positions { get => (Positions)raw.positions; set => raw.positions = (int)value; }
  public double RopeTheta { get => raw.rope_theta; set => raw.rope_theta = value; }
  public long RopeDims { get => raw.rope_dims; set => raw.rope_dims = value; }
  public string Policy { get => raw.policy; set => raw.policy = value; }
  public long ContextTokens { get => raw.context_tokens; set => raw.context_tokens = value; }
  public long DeviceOrdinal { get => raw.device_ordinal; set => raw.device_ordinal = value; }
}

/// <summary>What differs in one layer: kvc_layer.</summary>
public sealed class LayerOptions {
  internal readonly kvc_layer raw = new kvc_layer();

  public long KvHeads { get => raw.kv_heads; set => raw.kv_heads = value; }
  public long QHeads { get => raw.q_heads; set => raw.q_heads = value; }
  public long KDim { get => raw.k_dim; set => raw.k_dim = value; }
  public long VDim { get => raw.v_dim; set => raw.v_dim = value; }
  public long SlidingWindow { get => raw.sliding_window; set => raw.sliding_window = value; }
  public string Codec { get => raw.codec; set => raw.codec = value; }
  public double RopeTheta { get => raw.rope_theta; set => raw.rope_theta = value; }
}

/// <summary>kvc_seq_options.</summary>
public sealed class SequenceOptions {
  internal readonly kvc_seq_options raw = new kvc_seq_options();

  public long FirstPosition { get => raw.first_position; set => raw.first_position = value; }
  public long PromptLength { get => raw.prompt_length; set => raw.prompt_length = value; }
}

/// <summary>kvc_step_options.</summary>
public sealed class StepOptions {
  internal readonly kvc_step_options raw = new kvc_step_options();
  Graph graph;

  public Dtype KvDtype { get => (Dtype)raw.kv_dtype; set => raw.kv_dtype = (int)value; }
  public Dtype QDtype { get => (Dtype)raw.q_dtype; set => raw.q_dtype = (int)value; }
  public Dtype OutDtype { get => (Dtype)raw.out_dtype; set => raw.out_dtype = (int)value; }
  public long KTokenStride { get => raw.k_token_stride; set => raw.k_token_stride = value; }
  public long KHeadStride { get => raw.k_head_stride; set => raw.k_head_stride = value; }
  public long VTokenStride { get => raw.v_token_stride; set => raw.v_token_stride = value; }
  public long VHeadStride { get => raw.v_head_stride; set => raw.v_head_stride = value; }
  public long QTokenStride { get => raw.q_token_stride; set => raw.q_token_stride = value; }
  public long QHeadStride { get => raw.q_head_stride; set => raw.q_head_stride = value; }
  public long OutTokenStride { get => raw.out_token_stride; set => raw.out_token_stride = value; }
  public long OutHeadStride { get => raw.out_head_stride; set => raw.out_head_stride = value; }
  public bool PartialCommit { get => raw.partial_commit != 0; set => raw.partial_commit = value ? 1 : 0; }
  public bool Strict { get => raw.strict != 0; set => raw.strict = value ? 1 : 0; }
  public bool Accumulate { get => raw.accumulate != 0; set => raw.accumulate = value ? 1 : 0; }
  public Device Buffers { get => (Device)raw.buffers; set => raw.buffers = (int)value; }
  public IntPtr Stream { get => raw.stream; set => raw.stream = value; }

  /// <summary>The step is captured in this graph, or replays it.</summary>
  public Graph Graph {
    get => graph;
    set {
      graph = value;
      raw.graph = value == null ? System.IntPtr.Zero : value.handle.DangerousGetHandle();
    }
  }
}

/// <summary>kvc_attend_options. One object serves any number of calls, which then allocate nothing.</summary>
public sealed class AttendOptions {
  internal readonly kvc_attend_options raw = new kvc_attend_options();

  public float Scale { get => raw.scale; set => raw.scale = value; }
  public float SoftCap { get => raw.soft_cap; set => raw.soft_cap = value; }
  public bool Partial { get => raw.partial != 0; set => raw.partial = value ? 1 : 0; }
  public long SlidingWindow { get => raw.sliding_window; set => raw.sliding_window = value; }
  public long CausalOffset { get => raw.causal_offset; set => raw.causal_offset = value; }
}

/// <summary>kvc_evict_options.</summary>
public sealed class EvictOptions {
  internal readonly kvc_evict_options raw = new kvc_evict_options();

  public long LayerBegin { get => raw.layer_begin; set => raw.layer_begin = value; }
  public long LayerEnd { get => raw.layer_end; set => raw.layer_end = value; }
  public long HeadBegin { get => raw.head_begin; set => raw.head_begin = value; }
  public long HeadEnd { get => raw.head_end; set => raw.head_end = value; }
  public long Budget { get => raw.budget; set => raw.budget = value; }
  public long Recent { get => raw.recent; set => raw.recent = value; }
}

/// <summary>kvc_merge_options.</summary>
public sealed class MergeOptions {
  internal readonly kvc_merge_options raw = new kvc_merge_options();

  public long LayerBegin { get => raw.layer_begin; set => raw.layer_begin = value; }
  public long LayerEnd { get => raw.layer_end; set => raw.layer_end = value; }
  public long HeadBegin { get => raw.head_begin; set => raw.head_begin = value; }
  public long HeadEnd { get => raw.head_end; set => raw.head_end = value; }
  public bool ValuesOnly { get => raw.values_only != 0; set => raw.values_only = value ? 1 : 0; }
  public bool Unbiased { get => raw.unbiased != 0; set => raw.unbiased = value ? 1 : 0; }
}

/// <summary>kvc_step_down_options.</summary>
public sealed class StepDownOptions {
  internal readonly kvc_step_down_options raw = new kvc_step_down_options();

  public int Rung { get => raw.rung; set => raw.rung = value; }
  public long LayerBegin { get => raw.layer_begin; set => raw.layer_begin = value; }
  public long LayerEnd { get => raw.layer_end; set => raw.layer_end = value; }
  public long BudgetBytes { get => raw.budget_bytes; set => raw.budget_bytes = value; }
  public long Recent { get => raw.recent; set => raw.recent = value; }
}

/// <summary>kvc_prefix_options.</summary>
public sealed class PrefixOptions {
  internal readonly kvc_prefix_options raw = new kvc_prefix_options();

  public bool Pinned { get => raw.pinned != 0; set => raw.pinned = value ? 1 : 0; }
  /// <summary>The entry holds codes alone; its length must be the codec's sinks and whole pages of 64.</summary>
  public bool Seal { get => raw.seal != 0; set => raw.seal = value ? 1 : 0; }
}

/// <summary>kvc_plan_request.</summary>
public sealed class PlanRequest {
  internal readonly kvc_plan_request raw = new kvc_plan_request();

  public bool PartialCommit { get => raw.partial_commit != 0; set => raw.partial_commit = value ? 1 : 0; }
  public long Tokens { get => raw.tokens; set => raw.tokens = value; }
  public long Sequences { get => raw.sequences; set => raw.sequences = value; }
  public long StepTokens { get => raw.step_tokens; set => raw.step_tokens = value; }
  public long BudgetBytes { get => raw.budget_bytes; set => raw.budget_bytes = value; }
}

}

using Kvc.Raw;

namespace Kvc {

// The values come from kvc.h, through the raw layer.

/// <summary>What became of a call.</summary>
public enum Status {
  Ok = (int)kvc_status.KVC_OK,
  Argument = (int)kvc_status.KVC_E_ARGUMENT,
  Handle = (int)kvc_status.KVC_E_HANDLE,
  Range = (int)kvc_status.KVC_E_RANGE,
  Order = (int)kvc_status.KVC_E_ORDER,
  Busy = (int)kvc_status.KVC_E_BUSY,
  NoMemory = (int)kvc_status.KVC_E_NO_MEMORY,
  Nonfinite = (int)kvc_status.KVC_E_NONFINITE,
  Unsupported = (int)kvc_status.KVC_E_UNSUPPORTED,
  Forked = (int)kvc_status.KVC_E_FORKED,
  Internal = (int)kvc_status.KVC_E_INTERNAL,
  Corrupt = (int)kvc_status.KVC_E_CORRUPT,
  Io = (int)kvc_status.KVC_E_IO,
  Device = (int)kvc_status.KVC_E_DEVICE,
  Capture = (int)kvc_status.KVC_E_CAPTURE,
  Again = (int)kvc_status.KVC_E_AGAIN
}

/// <summary>Element types of callers' buffers.</summary>
public enum Dtype {
  Default = (int)kvc_dtype.KVC_DTYPE_DEFAULT,
  F16 = (int)kvc_dtype.KVC_F16,
  F32 = (int)kvc_dtype.KVC_F32,
  BF16 = (int)kvc_dtype.KVC_BF16
}

/// <summary>Where a cache or a buffer lies.</summary>
public enum Device {
  Default = (int)kvc_device.KVC_DEVICE_DEFAULT,
  Cpu = (int)kvc_device.KVC_CPU,
  Cuda = (int)kvc_device.KVC_CUDA
}

/// <summary>Keys or values.</summary>
public enum Part {
  Unset = (int)kvc_part.KVC_PART_UNSET,
  Keys = (int)kvc_part.KVC_KEYS,
  Values = (int)kvc_part.KVC_VALUES
}

/// <summary>Which channels turn together.</summary>
public enum RopePairs {
  Halves = (int)kvc_rope_pairs.KVC_ROPE_HALVES,
  Interleaved = (int)kvc_rope_pairs.KVC_ROPE_INTERLEAVED
}

/// <summary>Whether keys and queries come turned.</summary>
public enum Keys {
  AfterRope = (int)kvc_keys.KVC_KEYS_AFTER_ROPE,
  BeforeRope = (int)kvc_keys.KVC_KEYS_BEFORE_ROPE
}

/// <summary>By which positions keys and queries turn.</summary>
public enum Positions {
  True = (int)kvc_positions.KVC_POSITIONS_TRUE,
  InCache = (int)kvc_positions.KVC_POSITIONS_IN_CACHE
}

/// <summary>What truncate and fork may do below the exact floor.</summary>
public enum Cut {
  Exact = (int)kvc_cut.KVC_CUT_EXACT,
  Inexact = (int)kvc_cut.KVC_CUT_INEXACT
}

/// <summary>Kinds of memory that kvc hands out.</summary>
public enum BufferKind {
  Unset = (int)kvc_buffer_kind.KVC_BUFFER_UNSET,
  Device = (int)kvc_buffer_kind.KVC_BUFFER_DEVICE,
  Pinned = (int)kvc_buffer_kind.KVC_BUFFER_PINNED
}

}

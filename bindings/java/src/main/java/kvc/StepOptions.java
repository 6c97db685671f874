package kvc;

import kvc.raw.kvc_dtype;
import kvc.raw.kvc_step_options;

/** Types, strides and place of the buffers of a step, and its stream. */
public final class StepOptions {
  final kvc_step_options raw = new kvc_step_options();
  Graph named;

  /** Element types of buffers. */
  public enum Dtype {
    DEFAULT(kvc_dtype.KVC_DTYPE_DEFAULT),
    F16(kvc_dtype.KVC_F16),
    F32(kvc_dtype.KVC_F32),
    BF16(kvc_dtype.KVC_BF16);

    final kvc_dtype raw;

    Dtype(kvc_dtype raw) { this.raw = raw; }
  }

  public StepOptions kvDtype(Dtype value) {
    raw.setKv_dtype(value.raw.swigValue());
    return this;
  }

  public StepOptions qDtype(Dtype value) {
    raw.setQ_dtype(value.raw.swigValue());
    return this;
  }

  public StepOptions outDtype(Dtype value) {
    raw.setOut_dtype(value.raw.swigValue());
    return this;
  }

  public StepOptions kTokenStride(long value) {
    raw.setK_token_stride(value);
    return this;
  }

  public StepOptions kHeadStride(long value) {
    raw.setK_head_stride(value);
    return this;
  }

  public StepOptions vTokenStride(long value) {
    raw.setV_token_stride(value);
    return this;
  }

  public StepOptions vHeadStride(long value) {
    raw.setV_head_stride(value);
    return this;
  }

  public StepOptions qTokenStride(long value) {
    raw.setQ_token_stride(value);
    return this;
  }

  public StepOptions qHeadStride(long value) {
    raw.setQ_head_stride(value);
    return this;
  }

  public StepOptions outTokenStride(long value) {
    raw.setOut_token_stride(value);
    return this;
  }

  public StepOptions outHeadStride(long value) {
    raw.setOut_head_stride(value);
    return this;
  }

  public StepOptions partialCommit(boolean value) {
    raw.setPartial_commit(value ? 1 : 0);
    return this;
  }

  public StepOptions strict(boolean value) {
    raw.setStrict(value ? 1 : 0);
    return this;
  }

  public StepOptions accumulate(boolean value) {
    raw.setAccumulate(value ? 1 : 0);
    return this;
  }

  /** Where k, v, q, out and lse lie; on a device they are given as addresses. */
  public StepOptions buffers(Device value) {
    raw.setBuffers(value.raw.swigValue());
    return this;
  }

  /** The stream of the device, such as a CUstream, as a number. */
  public StepOptions stream(long value) {
    raw.setStream(value);
    return this;
  }

  /** The step is captured in this graph, or replays it; null: neither. */
  public StepOptions graph(Graph value) {
    raw.setGraph(value == null ? 0 : value.handle);
    named = value;
    return this;
  }
}

package kvc;

import kvc.raw.kvc_step_down_options;

/** Which pages step down, and how far. */
public final class StepDownOptions {
  final kvc_step_down_options raw = new kvc_step_down_options();

  public StepDownOptions rung(int value) {
    raw.setRung(value);
    return this;
  }

  /** Layers acted on; all if not set. */
  public StepDownOptions layers(long begin, long end) {
    raw.setLayer_begin(begin);
    raw.setLayer_end(end);
    return this;
  }

  public StepDownOptions budgetBytes(long value) {
    raw.setBudget_bytes(value);
    return this;
  }

  public StepDownOptions recent(long value) {
    raw.setRecent(value);
    return this;
  }
}

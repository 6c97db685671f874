package kvc;

import kvc.raw.kvc_merge_options;

/** What a merge acts on and how. */
public final class MergeOptions {
  final kvc_merge_options raw = new kvc_merge_options();

  /** Layers acted on; all if not set. */
  public MergeOptions layers(long begin, long end) {
    raw.setLayer_begin(begin);
    raw.setLayer_end(end);
    return this;
  }

  /** Kv heads acted on; all if not set. */
  public MergeOptions heads(long begin, long end) {
    raw.setHead_begin(begin);
    raw.setHead_end(end);
    return this;
  }

  public MergeOptions valuesOnly(boolean value) {
    raw.setValues_only(value ? 1 : 0);
    return this;
  }

  public MergeOptions unbiased(boolean value) {
    raw.setUnbiased(value ? 1 : 0);
    return this;
  }
}
